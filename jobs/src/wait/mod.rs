//! The waiting kinds: each looks once and, when there is nothing yet, says when to look again. No slot is held meanwhile.

mod http;
mod object;
mod time;

use std::time::Duration;

pub use http::WaitForHttpJob;
pub use object::WaitForObjectJob;
pub use time::WaitForTimeJob;

/// Time between two looks, unless the task says otherwise.
const INTERVAL: Duration = Duration::from_secs(30);
