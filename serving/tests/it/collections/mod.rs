//! People's collections, on SQLite and on PostgreSQL, by tokens of two people.

mod field;
mod own;
mod places;
mod record;
mod sync;
