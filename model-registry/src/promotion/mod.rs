//! Promotion: moves an alias of a registered model by compare-and-set, behind gates, with an audit.
//!
//! The gates of a file ([`Gates`]) are of two sorts. `sql` and `smoke` are evaluated by whoever promotes
//! ([`Gates::evaluate`]), who sends what they found; `tags` and `approvals` are looked at by the server in the
//! transaction that moves the alias. Every move, and every one that was refused or came too late, is a row of the audit
//! ([`Promotion`]).

mod bind;
mod evaluate;
mod gates;
mod principal;
mod request;

pub use bind::{BoundSql, SqlTemplate, SqlValue};
pub use evaluate::{Candidate, Evaluated, GateRow, GateRunner};
pub use gates::{Check, Compare, Gate, Gates};
pub use principal::{ACTOR, Principal, ROLES};
pub use request::{
    Approval, ApprovalRequest, Expected, GateKind, GateResult, Measure, Move, MoveKind, Outcome, Promotion,
    PromotionRequest, Required, RollbackRequest,
};
