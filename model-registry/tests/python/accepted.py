"""Where ours differs from MLflow's own server on purpose: (area or None for all, a pattern, why).

The pattern is looked for in `KIND: METHOD PATH LABEL real: ANSWER ours: ANSWER`. What is accepted without a line here: any
answer where the original fails (5xx).
"""

ACCEPTED = [
    (None, r"ours: .*NUL character", "a NUL character cannot be kept by PostgreSQL, so it is refused everywhere"),
    (None, r"ours: (400 )?\{'error_code': 'INVALID_PARAMETER_VALUE', 'message': .the body is not as it should be|words: .*ours: the body is not as it should be",
     "a body that is no JSON or has a field of a wrong type is refused with its place, where the original takes what it understands of it"),
    (None, r"(=|without|\]:) .*real: 200 .*ours: 400 \{'error_code': 'INVALID_PARAMETER_VALUE', 'message': .(Invalid value|Missing value)", "the same, in the words that the original has for it elsewhere"),
    (None, r"'(status|view_type)': '?\w+'?[,}].*real: 200 .*ours: 400", "a word that is no status or view is refused, in small letters too"),
    (None, r"ours: .*Failed to deserialize query string", "the same for addresses"),
    (None, r"real: (400 )?\{'error_code': 'BAD_REQUEST', 'message': .\S*(\(sqlite3|\(raised as a result)", "the words of the original's database are no answer"),
    ("artifacts", r"status: (GET|PUT) \S*(\.\.|%5[cC]|%ff|%0a|\\\\).*", "names that another system could read as a way out, or that are no text, are refused"),
    ("artifacts", r"list 'a\\\\..\\\\b'", "the same"),
    ("artifacts", r"\?x=1", "a path without a name is no endpoint"),
    (None, r"artifact_location.*ours: 400.*must not lead out of its folder", "a place with '..' is refused when it is given, not when it is used"),
    ("routes", r"OPTIONS", "browsers of other origins are not served"),
    (None, r"ours: .*exceeds the maximum length of 256 characters", "a name of a model has at most 256 characters, as the original's tables say; SQLite takes no notice of it"),
    (None, r"eyJvZmZzZXQiOiAtMX0=", "a token of a page before the first is none"),
    (None, r"(tags\.|order metrics\.) .*ours: 400", "a key of nothing is no key"),
    ("model_versions", r"(real|ours): .*model_version\.(version|description|run_link|run_id|current_stage|tags)", "odd versions are taken by one and refused by the other: their numbers and texts differ"),
    ("metrics", r"'value': 'nan'", "what is not a number is written NaN"),
    ("searches", r"run_id IN \('x' 'y'\)", "a list has commas"),
    ("logged_models", r"dataset_digest = (None|'')|without dataset_digest", "a data set without a digest is any of that name; the original finds none"),
    ("logged_models", r"status = 'READY'", "the original compares the text with the number that it keeps, and never finds it"),
    ("logged_models", r"body: PATCH .*data\.params|info\.tags", "the odd model has what one took and the other refused"),
    ("model_versions", r"odd-\S+.*'?version'?( = |': )'?5'?", "version 5 of the odd model is there on one and not on the other"),
    ("model_versions", r" version = '5' ", "the same"),
    ("logged_models", r"max_results = -1", "a page has at least one row"),
    (None, r"status: POST runs/create (without experiment_id|body|type)", "a run without an experiment belongs to the one that is always there"),
    ("metrics", r"POST runs/outputs", "an output that is logged again is there already"),
    ("metrics", r"log-inputs .*(without dataset|dataset = None).*ours: 400", "an input has a dataset"),
    ("registered_models", r" name = 10000 x .*ours: 404", "the model with the long name above was refused"),
    ("runs", r"body: GET runs/get .*\.data\.params\[\d+\]\.key = ", "the odd run has a param that one took and the other refused"),
    ("artifacts", r"a//b get a//b", "two slashes are one"),
    ("webhooks", r"body: GET webhooks\S* .*\.webhook\.status = ", "the status that the original took above is no word of its list"),
    ("webhooks", r"body: GET webhooks .*\.name = hook-", "a webhook was taken by one and refused by the other"),
    ("webhooks", r"status: (POST|PATCH) webhooks\S* (status|events\[0\]: entity) = ", "a word that is no status or entity is refused, where the original takes the first there is"),
    (None, r"type 'APPLICATION/JSON'", "media types have no case"),
    ("runs", r"POST runs/create tags\[0\]: (key|value) = 10000 x", "limits of tags hold for new runs too"),
    ("filters", r"\w\.[%+/@#&|^*-]+\w.*real: 200 .*ours: 400 .*Invalid clause", "a calculation is no key"),
]
