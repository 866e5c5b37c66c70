"""What every report says and looks like, whatever its data: styles, captions, words."""

from __future__ import annotations

STYLES = {
    "CONTRADICTED": ("#b91c1c", "✗"),
    "NOT CONTRADICTED": ("#1e40af", "○"),
    "INVALID AUDIT": ("#a16207", "!"),
}
POWERLESS = ("#a16207", "○")

CSS = """
:root{color-scheme:light;--ink:#111827;--soft:#4b5563;--line:#e5e7eb;--card:#fff;--back:#f6f7f9}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);
 font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
 overflow-wrap:anywhere}
main{max-width:1080px;margin:0 auto;padding:16px}
header.verdict{border-radius:14px;padding:22px;color:#fff;background:var(--tone)}
.verdict h1{margin:0;font-size:clamp(1.5rem,5vw,2.3rem);line-height:1.15;letter-spacing:.01em}
.verdict .short{font-size:1.1rem;font-weight:600;margin:.35rem 0 .6rem}
.verdict p{margin:.3rem 0;max-width:70ch}
.next{border:1px solid rgba(255,255,255,.6);border-radius:10px;padding:8px 12px;margin:.6rem 0}
.next pre{background:rgba(0,0,0,.28)}
h2{font-size:1.2rem;margin:1.8rem 0 .6rem}
h3{font-size:1rem;margin:0 0 .3rem}
.grid{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(min(100%,165px),1fr))}
.wide{grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr))}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.number{font-size:1.7rem;font-weight:700;line-height:1.2}
.card p,figcaption{margin:.25rem 0 0;color:var(--soft);font-size:.92rem}
figure{margin:0}
svg{display:block;width:100%;height:auto}
.ruler svg{max-width:640px;margin:0 auto}
.how{margin-top:14px}.how p{margin:.2rem 2px}
dl{display:grid;grid-template-columns:minmax(7rem,max-content) 1fr;gap:.35rem 1rem;margin:0}
dt{color:var(--soft)}dd{margin:0}
ul{margin:.2rem 0;padding-left:1.2rem}
li{margin:.25rem 0}
ul.checks{list-style:none;padding:0}
ul.checks li{padding-left:1.6rem;text-indent:-1.6rem}
ul.checks b:first-child{display:inline-block;width:1.6rem;text-indent:0}
.yes{color:#15803d}.no{color:#b91c1c}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;padding:.35rem .5rem .35rem 0;border-bottom:1px solid var(--line);
 vertical-align:top;overflow-wrap:normal}
.n{white-space:nowrap}
pre{background:#111827;color:#f9fafb;padding:12px 14px;border-radius:10px;overflow-x:auto;
 white-space:pre-wrap;font-size:.88rem;margin:.4rem 0}
footer{color:var(--soft);font-size:.85rem;margin:2rem 0 1rem}
@media(max-width:480px){main{padding:10px}dl{grid-template-columns:1fr;gap:0 0}
 dt{margin-top:.5rem;font-size:.88rem}.card{padding:12px}header.verdict{padding:16px}}
@media print{html{font-size:9.5px}body{background:#fff;font-size:1rem;line-height:1.38}
 main{padding:0;max-width:none}
 header.verdict{background:#fff;color:var(--tone);border:2px solid var(--tone);padding:8px 14px}
 .verdict h1{font-size:1.7rem}.verdict p{max-width:none}.next{border-color:var(--tone)}
 pre,.next pre{background:#fff;color:var(--ink);border:1px solid var(--line);padding:4px 8px}
 h2{margin:1rem 0 .3rem}.grid{gap:7px;grid-template-columns:repeat(5,1fr)}
 .wide{grid-template-columns:1fr 1fr}.card{padding:6px 10px;border-radius:6px}
 .number{font-size:1.4rem}figure svg{max-height:56mm}.ruler svg{max-height:26mm}
 .card,figure,tr,li,dd{break-inside:avoid}h2,h3{break-after:avoid}footer{margin:1rem 0 0}}
@page{margin:12mm}
"""

RULER = (
    "The bar shows how much leaks, from left to right. In the orange part the audit has shown a "
    "leak; in the violet part it could have shown one and did not; in the grey part it could not "
    "have seen any. The claim is contradicted if the orange part passes its black line, or if the "
    "p-value below is small enough."
)

BEYOND = (
    " This is what guesses show. The releases as numbers, below, are judged beside them, and can "
    "contradict the claim's noise and clipping wherever the guesses end."
)

CAPTIONS = {
    "scores": (
        "Do trained records look different?",
        "How much each record looks trained on to the model, by the score. The more the two heaps "
        "come apart, the more the model gives away about who was in it. One heap on the other: "
        "this score tells nothing.",
    ),
    "roc": (
        "How many trained records an attacker finds",
        "Whoever calls records “in” by their score finds some that were in (upwards) and "
        "accuses some that were not (to the right). On the dashed line he does as well as a coin. "
        "The band shows how far chance may have moved the orange line: where it holds the dashed "
        "one, nothing is shown.",
    ),
    "tradeoff": (
        "How wrong an attacker must be",
        "Whoever guesses who was in accuses wrongly (to the right) or misses somebody (upwards). "
        "Privacy forces such errors: the claim says that no attacker gets into the grey corner, "
        "where both are rare. The green line, where it is drawn, is the same for the noise that "
        "the run says it added. An orange line in the grey corner speaks against the claim, one "
        "near the dashed line is a coin's; the tests decide, as chance moves it within its band.",
    ),
    "bounds": (
        "Could any number of guesses have done it?",
        "The audit guesses only where it is surest; at which numbers of guesses was fixed before "
        "training. Orange: the leak that its guesses show. Dotted: what they would show if every "
        "one were right. By guesses alone, power needs that to reach 1.25 times the claim, and "
        "with any number of canaries, up to 100,000, it never passes the level drawn for them.",
    ),
}

HOW = {
    "model": (
        "How it was done: before training, records of the auditor's (canaries) were put in or left "
        "out by flipping a coin for each. Afterwards the audit guessed, from what training "
        "released alone, which had been in. If the claim holds, such guesses can be right only so "
        "often; more right guesses than that are evidence against it."
    ),
    "scores": (
        "How it was done: whether a record was in was decided by a coin. The audit guessed from "
        "the scores alone which had been in. If the claim holds, such guesses can be right only so "
        "often; more right guesses than that are evidence against it."
    ),
}

WORDS = (
    (
        "ε (epsilon)",
        "how much one record may change what training releases. At ε = 0 no test could tell "
        "whether a record was in; a good guesser's odds can grow by a factor of e^ε: about 1.1 "
        "at 0.1, 2.7 at 1, 55 at 4.",
    ),
    ("δ (delta)", "a small probability with which that promise may fail."),
    ("claim", "what is promised of the model: that no more than ε leaks, at this δ."),
    ("canary", "a record planted by a coin flip, so that chance alone decided if it trained."),
)
"""What is read before the first number; every other word stands with its number or picture."""

ESTIMATES = (
    "AUC: shown one record that was in and one that was not, how often the score says which is "
    "which; 0.5 is a coin toss, 1 is never wrong. TPR at 1% FPR: the share found of the records "
    "that were in, while one in a hundred of the others is wrongly accused. Interval: the values "
    "that are still possible when chance is allowed for."
)
PAPERS = (
    "These say that the evidence is genuine and complete: ledger, files and settings fit each "
    "other. None of them says that privacy holds."
)

CONFIDENTIAL = "This report is about real records: keep it where the training data may lie."
WHAT_TO_DO = {
    "CONTRADICTED": (
        "<b>What to do:</b> do not publish the model under this claim. The lower bound is the "
        "least that it leaks and no new claim. Look for the step that leaks with <code>dpaudit "
        "mechanism</code> and <code>dpaudit replay</code>, mend it, and train again."
    ),
    "NOT CONTRADICTED": (
        "<b>What to do:</b> nothing more for this audit. Quote it whole: what was tried, what that "
        "could have shown, and that it is no proof."
    ),
    "INVALID AUDIT": "<b>What to do:</b> what the next lines say, and then audit again.",
}
"""By verdict, in HTML."""
