//! Container images without Docker: a program with the shared libraries that it needs and the files that it works with, as one file
//! that is an OCI image layout (<https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>) and can be given to
//! `docker load` as well.
//!
//! | what | it is |
//! |---|---|
//! | [`program`] | images of Safari itself: control plane, CPU, CUDA |
//! | [`Layer`] | files and where they lie in the image |
//! | [`Libraries`] | the shared libraries that programs need, as the system's loader finds them |
//! | [`write()`] | layers and how they are run ([`Recipe`]), in a file ([`Image`]) |
//! | [`Base`] | another image, on which an image may stand |
//! | [`push()`] | sends an image to a registry of images ([`Target`]) |
//!
//! An image stands on nothing else, or on layers of another image. Everything that could differ between two machines or moments is
//! fixed (order, times, owners, modes), so that the same input gives the same digest.

mod base;
mod error;
mod layer;
mod layout;
mod libraries;
mod name;
pub mod program;
mod push;

pub use base::Base;
pub use error::{Error, Result};
pub use layer::Layer;
pub use layout::{Image, Recipe, write};
pub use libraries::Libraries;
pub use name::ImageName;
pub use push::{Sent, Target, push};

/// The user and the group that programs in images run as: nobody in particular.
pub const USER: u32 = 65_532;
