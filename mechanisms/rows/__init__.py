"""Row maps, one record's row in and one out, with the post maps that lead back."""
