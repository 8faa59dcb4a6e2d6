"""Webhooks: made, listed, changed, removed. Whether they arrive is another test's concern."""

from mlflow.entities.webhook import WebhookEvent, WebhookStatus

from conformance import equal, fresh, refused

# An address by number: no name is looked up. Nothing is sent to it, as the events never happen while it is there.
URL = "https://1.1.1.1/hook"


def test_life(client):
    name = fresh("hook")
    made = client.create_webhook(name, URL, ["model_version.created", "registered_model.created"], description="about", secret="secret", status="DISABLED")
    try:
        equal((made.name, made.url, made.description, made.status, made.secret), (name, URL, "about", WebhookStatus.DISABLED, None))
        equal(sorted(str(event) for event in made.events), ["model_version.created", "registered_model.created"])
        found = client.get_webhook(made.webhook_id)
        equal((found.name, found.creation_timestamp), (name, made.creation_timestamp))
        assert made.webhook_id in {hook.webhook_id for hook in client.list_webhooks()}
        changed = client.update_webhook(made.webhook_id, name=fresh("other"), events=["model_version_alias.created"], description="new")
        equal((changed.description, [str(event) for event in changed.events], changed.url), ("new", ["model_version_alias.created"], URL))
        page = client.list_webhooks(max_results=1)
        equal(len(page), 1)
    finally:
        client.delete_webhook(made.webhook_id)
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_webhook(made.webhook_id)
    with refused("INVALID_PARAMETER_VALUE"):
        client.create_webhook(fresh("hook"), "ftp://127.0.0.1/hook", ["model_version.created"])
    equal(str(WebhookEvent.from_str("model_version.created")), "model_version.created")
