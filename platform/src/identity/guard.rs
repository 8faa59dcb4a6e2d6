//! What stands before routes, and the builder that lets no route be without it.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};

use super::principal::{PeerAddress, Principal};
use super::refusal::Refusal;
use super::roles::Permission;
use super::{Identity, Manager};
use crate::{Error, Result};

/// Whether who asks is known.
#[derive(Clone, Debug, Default)]
pub enum Guard {
    /// Identity is off: whoever reaches the server, which is on loopback, may do everything.
    #[default]
    Open,
    /// Identity is on.
    Closed(Identity),
}

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Nothing: it says nothing that others may not know.
    Public,
    /// Somebody who has this permission.
    Needs(Permission),
}

/// A route, for whoever compares routes with the table of roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path, with names of parts in braces.
    pub path: String,
    /// What it needs.
    pub door: Door,
}

/// Routes that each name what they need. They become a [`Router`] only with a [`Guard`], which stands before every one.
#[derive(Clone)]
pub struct Guarded<S = ()> {
    routes: Vec<(Route, MethodRouter<S>)>,
}

impl Guard {
    /// Refuses an address that other machines can reach where identity is off.
    ///
    /// # Errors
    /// [`Error::OpenAddress`]
    pub fn check(&self, address: SocketAddr) -> Result<()> {
        match self {
            Self::Open if !address.ip().is_loopback() => Err(Error::OpenAddress(address)),
            _ => Ok(()),
        }
    }

    /// Lets a request through a door, or not. Who asks becomes an extension of the request where the door asks for it.
    ///
    /// # Errors
    /// Why not.
    pub async fn admit(&self, parts: &mut Parts, door: Door) -> std::result::Result<(), Refusal> {
        let address = parts.extensions.get::<PeerAddress>().map(|PeerAddress(address)| *address);
        let principal = match (self, door) {
            (Self::Open, _) => Principal::local(),
            (Self::Closed(identity), Door::Public) => return identity.count_anonymous(address),
            (Self::Closed(identity), Door::Needs(permission)) => {
                let principal = identity.authenticate(&parts.headers, address).await?;
                if !principal.roles.may(permission) {
                    tracing::info!(name = %principal.name, path = parts.uri.path(), %permission, "not allowed");
                    return Err(Refusal::forbidden(&principal.name, permission));
                }
                principal
            }
        };
        parts.extensions.insert(principal);
        Ok(())
    }
}

impl From<Permission> for Door {
    fn from(permission: Permission) -> Self {
        Self::Needs(permission)
    }
}

impl Principal {
    /// As who manages people and tokens.
    pub fn manager(&self, address: Option<std::net::IpAddr>) -> Manager<'_> {
        Manager { name: &self.name, address }
    }
}

impl<S: Clone + Send + Sync + 'static> Guarded<S> {
    /// No routes.
    pub fn new() -> Self {
        Self { routes: Vec::new() }
    }

    /// Adds `GET`, and with it `HEAD`.
    #[must_use]
    pub fn get<H: Handler<T, S>, T: 'static>(self, path: &str, door: impl Into<Door>, handler: H) -> Self {
        self.add(Method::GET, path, door, routing::get(handler))
    }

    /// Adds `POST`.
    #[must_use]
    pub fn post<H: Handler<T, S>, T: 'static>(self, path: &str, door: impl Into<Door>, handler: H) -> Self {
        self.add(Method::POST, path, door, routing::post(handler))
    }

    /// Adds `PUT`.
    #[must_use]
    pub fn put<H: Handler<T, S>, T: 'static>(self, path: &str, door: impl Into<Door>, handler: H) -> Self {
        self.add(Method::PUT, path, door, routing::put(handler))
    }

    /// Adds `PATCH`.
    #[must_use]
    pub fn patch<H: Handler<T, S>, T: 'static>(self, path: &str, door: impl Into<Door>, handler: H) -> Self {
        self.add(Method::PATCH, path, door, routing::patch(handler))
    }

    /// Adds `DELETE`.
    #[must_use]
    pub fn delete<H: Handler<T, S>, T: 'static>(self, path: &str, door: impl Into<Door>, handler: H) -> Self {
        self.add(Method::DELETE, path, door, routing::delete(handler))
    }

    /// Adds the routes of another.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.routes.extend(other.routes);
        self
    }

    /// Adds the routes of another below a path.
    #[must_use]
    pub fn nest(mut self, prefix: &str, other: Self) -> Self {
        self.routes.extend(other.routes.into_iter().map(|(route, handler)| {
            let path = format!("{prefix}{}", route.path);
            (Route { path, ..route }, handler)
        }));
        self
    }

    /// Gives the handlers what they share.
    #[must_use]
    pub fn with_state<S2: Clone + Send + Sync + 'static>(self, state: S) -> Guarded<S2> {
        let with_state = |(route, handler): (Route, MethodRouter<S>)| (route, handler.with_state(state.clone()));
        Guarded { routes: self.routes.into_iter().map(with_state).collect() }
    }

    /// All routes.
    pub fn routes(&self) -> Vec<Route> {
        self.routes.iter().map(|(route, _)| route.clone()).collect()
    }

    /// The routes behind the guard. Whoever is not let in is answered in the words of `refuse`, such as
    /// [`Refusal::into_response`].
    pub fn into_router(self, guard: &Guard, refuse: fn(Refusal) -> Response) -> Router<S> {
        self.routes.into_iter().fold(Router::new(), |router, (route, handler)| {
            let before = Before { guard: guard.clone(), door: route.door, refuse };
            router.route(&route.path, handler.route_layer(middleware::from_fn_with_state(before, pass)))
        })
    }

    fn add(mut self, method: Method, path: &str, door: impl Into<Door>, handler: MethodRouter<S>) -> Self {
        self.routes.push((Route { method, path: path.to_owned(), door: door.into() }, handler));
        self
    }
}

impl<S: Clone + Send + Sync + 'static> Default for Guarded<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> std::fmt::Debug for Guarded<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.routes.iter().map(|(route, _)| route)).finish()
    }
}

/// What stands before one route.
#[derive(Clone)]
struct Before {
    guard: Guard,
    door: Door,
    refuse: fn(Refusal) -> Response,
}

async fn pass(State(before): State<Before>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match before.guard.admit(&mut parts, before.door).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(refusal) => {
            let answer = (before.refuse)(refusal.clone());
            refusal.decorate(answer).into_response()
        }
    }
}
