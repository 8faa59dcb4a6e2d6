//! Walks all routes of a server with all roles, and with all that lets nobody in, and compares with the table of roles.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use platform::database::Address;
use platform::identity::store::{NewToken, Store};
use platform::identity::{AccessClaims, Door, Guard, Identity, IdentityOptions, Manager, Role, Roles, Route};
use platform::sealing::SecretKey;

const PASSWORD: &str = "a password for tests";

// gRPC's codes.
const PERMISSION_DENIED: &str = "7";
const RESOURCE_EXHAUSTED: &str = "8";
const UNAUTHENTICATED: &str = "16";

/// Somebody for each role, and credentials that let nobody in.
#[derive(Debug)]
pub struct Walk {
    identity: Identity,
    known: Vec<(Role, String)>,
    refused: Vec<(&'static str, String)>,
}

impl Walk {
    /// People and tokens in tables of their own.
    ///
    /// # Panics
    /// When one cannot be made.
    pub async fn new(address: &Address) -> Self {
        let store = Store::open(address).await.expect("tables of identity");
        let sealing = SecretKey::from_text("a key for tests, of no worth").expect("a key");
        let options = IdentityOptions { requests_per_second: 0, ..IdentityOptions::default() };
        let identity = Identity::new(store, sealing, options).await.expect("identity");
        let mut known = Vec::new();
        for role in Role::ALL {
            let name = format!("the-{role}");
            identity.add_user(&name, PASSWORD, role.into(), by()).await.expect("a user");
            known.push((role, log_in(&identity, &name).await));
            let basic = STANDARD.encode(format!("{name}:{PASSWORD}"));
            known.push((role, format!("Basic {basic}")));
            let expires_at = i64::MAX;
            let new = NewToken { name: "a service", user: None, roles: role.into(), expires_at };
            let (_, token) = identity.create_token(&new, by()).await.expect("a token");
            known.push((role, format!("Bearer {}", token.expose())));
        }
        let refused = refused(&identity).await;
        Self { identity, known, refused }
    }

    /// The guard to put before the routes.
    pub fn guard(&self) -> Guard {
        Guard::Closed(self.identity.clone())
    }

    /// Asks every route as everybody; gives what differs from the table.
    pub async fn compare(&self, router: &Router, routes: &[Route]) -> Vec<String> {
        let mut differences = Vec::new();
        // Whoever logs out is nobody afterwards.
        let (last, first): (Vec<&Route>, Vec<&Route>) = routes.iter().partition(|route| route.path == "/auth/logout");
        for route in first.into_iter().chain(last) {
            let Door::Needs(permission) = route.door else {
                let (status, words) = ask(router, route, None).await;
                // A login without a name is refused for that.
                let fine = status != StatusCode::FORBIDDEN && !words.contains("say who you are");
                differences.extend((!fine).then(|| format!("{} {} is not public: {status}", route.method, route.path)));
                continue;
            };
            for (role, credential) in &self.known {
                let (status, words) = ask(router, route, Some(credential)).await;
                let denied = words.contains("lacks the permission") && status == StatusCode::FORBIDDEN;
                let may = role.permissions().contains(&permission);
                if status == StatusCode::UNAUTHORIZED || denied == may {
                    differences.push(format!("{} {} as {role}: {status} {words}", route.method, route.path));
                }
            }
            for (what, credential) in &self.refused {
                let (status, words) = ask(router, route, (!credential.is_empty()).then_some(credential)).await;
                // Some hundred wrong passwords are answered with a wait.
                let waits = status == StatusCode::TOO_MANY_REQUESTS && what.contains("password");
                if status != StatusCode::UNAUTHORIZED && !waits {
                    differences.push(format!("{} {} with {what}: {status} {words}", route.method, route.path));
                }
            }
        }
        differences
    }

    /// The same for gRPC's methods, which answer 200 and say in `grpc-status` what came of it.
    pub async fn compare_grpc(&self, router: &Router, routes: &[Route]) -> Vec<String> {
        let mut differences = Vec::new();
        for route in routes {
            let Door::Needs(permission) = route.door else {
                let code = call(router, route, None).await;
                let fine = !matches!(code.as_deref(), Some(UNAUTHENTICATED | PERMISSION_DENIED));
                differences.extend((!fine).then(|| format!("{} is not public: {code:?}", route.path)));
                continue;
            };
            for (role, credential) in &self.known {
                let code = call(router, route, Some(credential)).await;
                let denied = code.as_deref() == Some(PERMISSION_DENIED);
                let may = role.permissions().contains(&permission);
                if code.as_deref() == Some(UNAUTHENTICATED) || denied == may {
                    differences.push(format!("{} as {role}: {code:?}", route.path));
                }
            }
            for (what, credential) in &self.refused {
                let code = call(router, route, (!credential.is_empty()).then_some(credential)).await;
                let waits = code.as_deref() == Some(RESOURCE_EXHAUSTED) && what.contains("password");
                if code.as_deref() != Some(UNAUTHENTICATED) && !waits {
                    differences.push(format!("{} with {what}: {code:?}", route.path));
                }
            }
        }
        differences
    }
}

async fn refused(identity: &Identity) -> Vec<(&'static str, String)> {
    let admin = log_in(identity, "the-admin").await;
    let token = admin.trim_start_matches("Bearer ").to_owned();
    let claims = identity.keys().verify(&token).await.expect("the tables").expect("a token that is valid");
    let signed =
        async |claims: AccessClaims| format!("Bearer {}", identity.keys().sign(&claims).await.expect("a signature"));
    let parts: Vec<&str> = token.split('.').collect();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"at+jwt"}"#);
    let viewer = log_in(identity, "the-viewer").await;
    let other_signature = viewer.rsplit('.').next().unwrap_or_default().to_owned();

    identity.add_user("the-disabled", PASSWORD, Roles::all(), by()).await.expect("a user");
    let disabled = log_in(identity, "the-disabled").await;
    identity.disable_user("the-disabled", true, by()).await.expect("a user");
    let ended = log_in(identity, "the-admin").await;
    let ended_claims = identity.keys().verify(ended.trim_start_matches("Bearer ")).await.expect("the tables");
    let ended_session = ended_claims.expect("a token that is valid").sid.expect("a session");
    identity.store().end_session(&ended_session).await.expect("a session");
    let revoked = log_in(identity, "the-admin").await;
    let revoked_claims = identity.keys().verify(revoked.trim_start_matches("Bearer ")).await.expect("the tables");
    let jti = revoked_claims.expect("a token that is valid").jti;
    identity.revoke_access_token(&jti, by()).await.expect("a revocation");
    let api = async |expires_at: i64| {
        let new = NewToken { name: "a service", user: None, roles: Roles::all(), expires_at };
        let (id, token) = identity.create_token(&new, by()).await.expect("a token");
        (id, format!("Bearer {}", token.expose()))
    };
    let (_, expired) = api(1).await;
    let (id, revoked_api) = api(i64::MAX).await;
    identity.revoke_token(&id, None, by()).await.expect("a token");
    vec![
        ("nothing", String::new()),
        ("an expired token", signed(AccessClaims { exp: claims.iat - 60, ..claims.clone() }).await),
        ("a token of tomorrow", signed(AccessClaims { nbf: claims.iat + 600, ..claims.clone() }).await),
        ("another audience", signed(AccessClaims { aud: "other".to_owned(), ..claims.clone() }).await),
        ("another issuer", signed(AccessClaims { iss: "other".to_owned(), ..claims.clone() }).await),
        ("no session", signed(AccessClaims { sid: None, ..claims.clone() }).await),
        ("alg none", format!("Bearer {none}.{}.", parts[1])),
        ("another signature", format!("Bearer {}.{}.{other_signature}", parts[0], parts[1])),
        ("no signature", format!("Bearer {}.{}.", parts[0], parts[1])),
        ("a disabled user", disabled),
        ("a disabled user's password", format!("Basic {}", STANDARD.encode(format!("the-disabled:{PASSWORD}")))),
        ("a session that was ended", ended),
        ("a revoked access token", revoked),
        ("an expired API token", expired),
        ("a revoked API token", revoked_api),
        ("an unknown API token", "Bearer sfr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned()),
        ("an unknown scheme", "Digest username=admin".to_owned()),
    ]
}

async fn log_in(identity: &Identity, name: &str) -> String {
    let tokens = identity.log_in(name, PASSWORD, None).await.expect("a login");
    format!("Bearer {}", tokens.access_token)
}

async fn ask(router: &Router, route: &Route, credential: Option<&String>) -> (StatusCode, String) {
    use tower::ServiceExt;
    // What is not there: a walk that is let in finds nothing to change.
    let path = route.path.split('/').map(|part| if part.starts_with('{') { "none" } else { part });
    let path = path.collect::<Vec<_>>().join("/");
    let mut request = Request::builder().method(&route.method).uri(path).header(header::HOST, "localhost");
    request = request.header(header::CONTENT_TYPE, "application/json");
    if let Some(credential) = credential {
        request = request.header(header::AUTHORIZATION, credential);
    }
    let request = request.body(Body::empty()).expect("a request");
    let Ok(answer) = router.clone().oneshot(request).await;
    let status = answer.status();
    // Streams of events have no end; refusals have.
    if status.is_success() {
        return (status, String::new());
    }
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap_or_default();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// Calls a method with nothing; gives `grpc-status`, if it is said before the body.
async fn call(router: &Router, route: &Route, credential: Option<&String>) -> Option<String> {
    use tower::ServiceExt;
    let request =
        Request::post(&route.path).header(header::CONTENT_TYPE, "application/grpc").header(header::TE, "trailers");
    let request = match credential {
        Some(credential) => request.header(header::AUTHORIZATION, credential),
        None => request,
    };
    let Ok(answer) = router.clone().oneshot(request.body(Body::empty()).expect("a request")).await;
    let code = answer.headers().get("grpc-status")?;
    code.to_str().ok().map(str::to_owned)
}

fn by() -> Manager<'static> {
    Manager { name: "a test", address: None }
}

/// Whether a list of routes has one of this method and path.
pub fn has(routes: &[Route], method: &Method, path: &str) -> bool {
    routes.iter().any(|route| route.method == *method && route.path == path)
}
