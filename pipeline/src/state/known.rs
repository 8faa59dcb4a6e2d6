//! What was read from the database and never changes, so that one reading is enough: the text of a DAG's version, and what
//! the transitions of a run need to know of it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use super::Plan;
use crate::dag::Dag;
use crate::ids::{DagVersionId, RunId};

/// More versions, and more runs, than are in use at once; when so many are kept, all are dropped and read again as needed.
const MOST: usize = 512;

/// DAGs by version; clones share them.
pub(super) type Dags = Known<DagVersionId, Dag>;

/// Plans by run; clones share them. A run may be removed while its plan is kept.
pub(super) type Plans = Known<RunId, Plan>;

/// Values by their keys; clones share them.
#[derive(Debug)]
pub(super) struct Known<K, V>(Arc<Mutex<HashMap<K, Arc<V>>>>);

impl<K: Eq + Hash, V> Known<K, V> {
    pub(super) fn get(&self, key: K) -> Option<Arc<V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    pub(super) fn keep(&self, key: K, value: &Arc<V>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(key, Arc::clone(value));
    }
}

impl<K, V> Clone for Known<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}
