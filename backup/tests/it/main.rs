//! Backups and their restoration on real databases, tables, files and servers.
#![allow(clippy::unwrap_used)]

mod age;
mod cluster;
mod consistency;
mod cycle;
mod damage;
mod faults;
mod house;
mod postgres;
mod s3;
mod writers;
