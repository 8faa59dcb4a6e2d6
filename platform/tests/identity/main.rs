//! People, tokens and certificates, asked for over real sockets, on both databases.
#![allow(clippy::unwrap_used)]

mod accounts;
mod certificates;
mod connections;
mod external;
mod served;
