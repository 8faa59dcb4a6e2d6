//! Logins, refreshed and ended; guesses; tokens of services.

use std::path::Path;
use std::time::Duration;

use platform::database::Engine;
use platform::identity::store::NewToken;
use platform::identity::{IdentityOptions, Role, Roles};
use reqwest::Method;
use serde_json::json;

use crate::served::{PASSWORD, Served, answer, by};

/// The same on both databases.
macro_rules! on_both {
    ($($name:ident => $test:ident;)*) => {$(
        mod $name {
            #[tokio::test]
            async fn on_sqlite() {
                super::$test(platform::database::Engine::Sqlite).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                super::$test(platform::database::Engine::Postgres).await;
            }
        }
    )*};
}

on_both! {
    a_session_goes_on_and_ends => session;
    a_refresh_token_that_comes_twice_ends_its_session => reuse;
    guesses_wait_and_the_right_password_waits_with_them => guesses;
    behind_a_gateway_one_callers_guesses_are_not_anothers => guesses_behind_a_gateway;
    services_get_access_tokens_until_their_token_is_revoked => services;
    who_is_disabled_or_has_fewer_roles_is_so_at_once => at_once;
    a_password_is_changed_by_its_owner_and_ends_sessions => password;
    keys_are_published_and_another_library_reads_tokens_by_them => published;
}

async fn session(engine: Engine) {
    let served = Served::start(engine, IdentityOptions::default()).await;
    served.add("Ada", Role::Ranger.into()).await;
    let login = served.log_in("ada", PASSWORD).await;
    assert_eq!((login.status, login.headers["cache-control"].to_str().unwrap()), (200, "no-store"));
    assert_eq!((login.text("token_type").as_str(), login.text("scope").as_str()), ("Bearer", "ranger"));
    let access = login.text("access_token");
    let me = served.get("/auth/me", &access).await;
    assert_eq!((me.text("name").as_str(), &me.body["roles"]), ("ada", &json!(["ranger"])));
    let next = served.post("/auth/refresh", None, json!({ "refresh_token": login.text("refresh_token") })).await;
    assert_eq!(next.status, 200);
    let newer = next.text("access_token");
    assert_eq!(served.get("/auth/me", &newer).await.status, 200);
    assert_eq!(served.post("/auth/logout", Some(&newer), json!({})).await.status, 204);
    for token in [&access, &newer] {
        let refused = served.get("/auth/me", token).await;
        assert_eq!(refused.status, 401);
        assert!(refused.headers["www-authenticate"].to_str().unwrap().contains("invalid_token"), "{refused:?}");
    }
    let late = served.post("/auth/refresh", None, json!({ "refresh_token": next.text("refresh_token") })).await;
    assert_eq!(late.status, 401);
    let events = served.identity.store().audits(10).await.unwrap();
    let deeds: Vec<&str> = events.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(deeds, ["logout", "login", "user_added"]);
    assert_eq!(events[1].address, "127.0.0.1");
}

async fn reuse(engine: Engine) {
    let served = Served::start(engine, IdentityOptions::default()).await;
    served.add("ada", Role::Viewer.into()).await;
    let first = served.log_in("ada", PASSWORD).await;
    let other = served.log_in("ada", PASSWORD).await;
    let body = json!({ "refresh_token": first.text("refresh_token") });
    let next = served.post("/auth/refresh", None, body.clone()).await;
    assert_eq!(next.status, 200);
    assert_eq!(served.post("/auth/refresh", None, body).await.status, 401);
    // Whoever of the two was the thief: neither goes on.
    assert_eq!(served.get("/auth/me", &next.text("access_token")).await.status, 401);
    let body = json!({ "refresh_token": next.text("refresh_token") });
    assert_eq!(served.post("/auth/refresh", None, body).await.status, 401);
    assert_eq!(served.get("/auth/me", &other.text("access_token")).await.status, 200, "another session goes on");
    let events = served.identity.store().audits(10).await.unwrap();
    assert!(events.iter().any(|event| event.action == "refresh_reused"), "{events:?}");
}

async fn guesses(engine: Engine) {
    let served = Served::start(engine, IdentityOptions::default()).await;
    served.add("ada", Role::Viewer.into()).await;
    let session = served.log_in("ada", PASSWORD).await.text("access_token");
    for name in ["ada", "nobody"] {
        for guess in 0..5 {
            let refused = served.log_in(name, &format!("a wrong password {guess}")).await;
            assert_eq!((refused.status, refused.text("detail").contains("is wrong")), (401, true), "{refused:?}");
        }
        // A name that does not exist is answered as one that does.
        let waits = served.log_in(name, PASSWORD).await;
        assert_eq!(waits.status, 429, "{waits:?}");
        assert_eq!(waits.headers["retry-after"], "1");
    }
    assert_eq!(served.get("/auth/me", &session).await.status, 200, "who is in stays in");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(served.log_in("ada", PASSWORD).await.status, 200, "after the wait that the answer names");
    let events = served.identity.store().audits(100).await.unwrap();
    assert!(events.iter().all(|event| event.subject != "nobody"), "what is no name may be a password");
}

async fn guesses_behind_a_gateway(engine: Engine) {
    let served = Served::start_behind(engine, IdentityOptions::default(), "127.0.0.0/8").await;
    served.add("ada", Role::Viewer.into()).await;
    let log_in = async |from: &str, name: &str, password: &str| {
        let request = served.request(Method::POST, "/auth/login").header("content-type", "application/json");
        let body = json!({ "name": name, "password": password }).to_string();
        answer(request.header("x-forwarded-for", from).body(body)).await.status
    };
    for guess in 0..30 {
        let from = format!("203.0.113.{guess}, 198.51.100.9");
        assert_eq!(log_in(&from, &format!("somebody-{guess}"), "a wrong password").await, 401);
    }
    assert_eq!(
        log_in("203.0.113.77, 198.51.100.9", "ada", PASSWORD).await,
        429,
        "what the caller adds changes nothing"
    );
    assert_eq!(log_in("198.51.100.10", "ada", PASSWORD).await, 200);
    let events = served.identity.store().audits(100).await.unwrap();
    assert!(events.iter().any(|event| event.address == "198.51.100.10"), "{events:?}");
}

async fn services(engine: Engine) {
    let served = Served::start(engine, IdentityOptions::default()).await;
    let expires_at = chrono::Utc::now().timestamp_millis() + 3_600_000;
    let new = NewToken { name: "cameras", user: None, roles: Role::Ranger.into(), expires_at };
    let (id, secret) = served.identity.create_token(&new, by()).await.unwrap();
    let form = |secret: &str| format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let ask = |body: String| {
        let request = served.request(Method::POST, "/oauth/token").body(body);
        answer(request.header("content-type", "application/x-www-form-urlencoded"))
    };
    let given = ask(form(secret.expose())).await;
    assert_eq!((given.status, given.text("scope").as_str()), (200, "ranger"), "{given:?}");
    assert!(given.body.get("refresh_token").is_none(), "a service logs in again");
    let basic = served.request(Method::POST, "/oauth/token").basic_auth(&id, Some(secret.expose()));
    let basic = basic.header("content-type", "application/x-www-form-urlencoded").body("grant_type=client_credentials");
    assert_eq!(answer(basic).await.status, 200);
    let wrong = ask(form("sfr_no")).await;
    assert_eq!((wrong.status, wrong.text("error").as_str()), (401, "invalid_client"));
    let other = ask("grant_type=password&username=ada&password=x".to_owned()).await;
    assert_eq!((other.status, other.text("error").as_str()), (400, "unsupported_grant_type"));
    let access = given.text("access_token");
    assert_eq!(served.get("/auth/me", &access).await.text("name"), "cameras");
    let made = served.post("/auth/tokens", Some(&access), json!({ "name": "more", "days": 9 })).await;
    assert_eq!(made.status, 403, "a token makes no tokens");
    served.identity.revoke_token(&id, None, by()).await.unwrap();
    assert_eq!(served.get("/auth/me", &access).await.status, 401);
    assert_eq!(ask(form(secret.expose())).await.status, 401);
}

async fn at_once(engine: Engine) {
    let served = Served::start(engine, IdentityOptions::default()).await;
    served.add("ada", [Role::Engineer, Role::Admin].into_iter().collect()).await;
    let login = served.log_in("ada", PASSWORD).await;
    let access = login.text("access_token");
    let made = served.post("/auth/tokens", Some(&access), json!({ "name": "script", "days": 1 })).await;
    assert_eq!((made.status, &made.body["roles"]), (201, &json!(["engineer", "admin"])), "{made:?}");
    let token = made.text("token");
    let more = json!({ "name": "script", "days": 1, "roles": ["operator"] });
    assert_eq!(served.post("/auth/tokens", Some(&access), more).await.status, 400, "nobody gives what they have not");
    assert_eq!(served.get("/auth/users", &token).await.status, 200);
    served.identity.set_roles("ada", Role::Engineer.into(), by()).await.unwrap();
    for credential in [&access, &token] {
        assert_eq!(served.get("/auth/users", credential).await.status, 403, "neither gives a role that is no more");
    }
    served.identity.disable_user("ada", true, by()).await.unwrap();
    for credential in [&access, &token] {
        assert_eq!(served.get("/auth/me", credential).await.status, 401);
    }
    assert_eq!(served.log_in("ada", PASSWORD).await.status, 401);
    let body = json!({ "refresh_token": login.text("refresh_token") });
    assert_eq!(served.post("/auth/refresh", None, body).await.status, 401);
    served.identity.disable_user("ada", false, by()).await.unwrap();
    assert_eq!(served.get("/auth/me", &token).await.status, 200);
}

async fn password(engine: Engine) {
    let served = Served::start(engine, IdentityOptions::default()).await;
    served.add("ada", Role::Viewer.into()).await;
    let access = served.log_in("ada", PASSWORD).await.text("access_token");
    let change = |current: &str, new: &str| json!({ "current": current, "new": new });
    let new = "another password for tests";
    let wrong = served.post("/auth/password", Some(&access), change("a wrong password", new)).await;
    assert_eq!(wrong.status, 401);
    let short = served.post("/auth/password", Some(&access), change(PASSWORD, "short")).await;
    assert_eq!((short.status, short.text("detail").contains("12")), (400, true), "{short:?}");
    assert_eq!(served.post("/auth/password", Some(&access), change(PASSWORD, new)).await.status, 204);
    assert_eq!(served.get("/auth/me", &access).await.status, 401);
    assert_eq!(served.log_in("ada", PASSWORD).await.status, 401);
    assert_eq!(served.log_in("ada", new).await.status, 200);
}

async fn published(engine: Engine) {
    let served = Served::start(engine, IdentityOptions::default()).await;
    served.add("ada", Roles::all()).await;
    let before = served.log_in("ada", PASSWORD).await.text("access_token");
    let kid = served.identity.rotate_key(by()).await.unwrap();
    let after = served.log_in("ada", PASSWORD).await.text("access_token");
    let python = Path::new(env!("WORKSPACE_ROOT")).join(".venv/bin/python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/identity/verify.py");
    for (token, is_new) in [(&before, false), (&after, true)] {
        let mut command = tokio::process::Command::new(&python);
        command.arg("-B").arg(&script).arg(format!("{}/.well-known/jwks.json", served.url)).arg(token);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["claims"]["aud"], "safari");
        assert_eq!(said["kid"] == kid, is_new, "{said}");
        assert_eq!(served.get("/auth/me", token).await.status, 200, "both keys count");
    }
}
