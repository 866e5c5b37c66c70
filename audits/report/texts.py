"""What every report says and looks like, whatever its data: styles, captions, words."""

from __future__ import annotations

STYLES = {
    "CONTRADICTED": ("#b91c1c", "✗", "The claim does not hold up."),
    "NOT CONTRADICTED": ("#1e40af", "○", "Nothing found against the claim; that is no proof."),
    "INVALID AUDIT": ("#a16207", "!", "This audit cannot answer the question."),
}
POWERLESS = ("#a16207", "○", "Hardly anything could have been found.")

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
.how{max-width:75ch;margin:1rem 2px 0}
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
details{margin:.5rem 0}summary{cursor:pointer;font-weight:600}
footer{color:var(--soft);font-size:.85rem;margin:2rem 0 1rem}
@media(max-width:480px){main{padding:10px}dl{grid-template-columns:1fr;gap:0 0}
 dt{margin-top:.5rem;font-size:.88rem}.card{padding:12px}header.verdict{padding:16px}}
@media print{body{background:#fff;font-size:11pt}main{padding:0;max-width:none}
 header.verdict{background:#fff;color:var(--tone);border:2px solid var(--tone)}
 pre{background:#fff;color:var(--ink);border:1px solid var(--line)}
 .number{font-size:1.2rem}.wide{grid-template-columns:1fr 1fr}
 .card,figure,tr,li,dd{break-inside:avoid}h2,h3,summary{break-after:avoid}thead{display:table-header-group}
 details::details-content{display:block;content-visibility:visible}}
@page{margin:15mm}
"""

RULER = (
    "The bar shows how much leaks, from left to right. In the orange part the audit has shown a "
    "leak; in the violet part it could have shown one and did not; in the grey part it could not "
    "have seen any. The claim is contradicted if the orange part passes its black line, or if the "
    "p-value below is small enough."
)

CAPTIONS = {
    "scores": (
        "Scores",
        "How trained-on each record looks to the model. The more the two heaps come apart, the "
        "more the model gives away about who was in it.",
    ),
    "roc": (
        "Who can be found, at what price",
        "For every rate of wrongly accused records, how many of the trained ones are found. Only "
        "what rises above the dashed line, where blind guesses lie, says anything. The band is the "
        "interval of each point.",
    ),
    "tradeoff": (
        "Errors that the claim demands",
        "Whoever tries to tell who was in must err: accuse wrongly or miss. The claim says that "
        "no test can enter the grey corner below its limit. The accountant's limit, where it is "
        "drawn, is what the noise and the steps that ran allow, which is never more; the run's "
        "own accounting is tested against it. The dashed line is blind guessing. What was observed "
        "is an estimate, with its interval as a band; the tests decide.",
    ),
    "bounds": (
        "What each number of guesses shows",
        "The audit guesses only where it is surest. How often was fixed before training; the "
        "dotted line is the most that perfect guesses would have shown, the dashed one the claim. "
        "The lower bound of the audit is the highest of the points.",
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
    ("canary", "a record planted by a coin flip, so that chance alone decided if it trained."),
    (
        "p-value at the claim",
        "were the claim true, evidence this strong would turn up at most this often. The verdict "
        "is CONTRADICTED only below the error that was fixed beforehand.",
    ),
    ("lower bound", "at the confidence, the true ε is no smaller than this."),
    ("ceiling", "the largest lower bound that this audit could have given, all guesses right."),
    (
        "AUC",
        "shown one record that was in and one that was not, how often the score says which is "
        "which: 0.5 is a coin toss, 1 is never wrong.",
    ),
    (
        "TPR at 1% FPR",
        "the share of the records that were in which is found, while one in a hundred of the "
        "others is wrongly accused.",
    ),
    ("interval", "the values that are still possible when chance is allowed for."),
    ("no power", "the ceiling is below 1.25 times the claim: hardly anything could contradict it."),
)
