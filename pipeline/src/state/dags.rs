//! DAGs that were read from the database: the text of a version never changes, so one reading is enough.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::dag::Dag;
use crate::ids::DagVersionId;

/// More versions than are in use at once; when so many are kept, all are dropped and read again as needed.
const MOST: usize = 512;

/// DAGs by version; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Dags(Arc<Mutex<HashMap<DagVersionId, Arc<Dag>>>>);

impl Dags {
    pub(super) fn get(&self, version: DagVersionId) -> Option<Arc<Dag>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&version).cloned()
    }

    pub(super) fn keep(&self, version: DagVersionId, dag: &Arc<Dag>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(version, Arc::clone(dag));
    }
}
