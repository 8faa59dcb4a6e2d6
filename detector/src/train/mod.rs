//! Training the liquid network on bursts made from photographs; the two other networks stay as they are.

pub mod bursts;
pub mod evaluate;
pub mod photographs;
pub mod plan;
pub mod synthesis;
