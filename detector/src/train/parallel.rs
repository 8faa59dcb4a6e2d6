//! The same work on many things, on some threads, with the results in the things' order.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::preprocess::Preprocessor;
use crate::{Error, Result};

/// Does `work` for every number below `count` on `threads` threads, each with a preprocessor of its own.
///
/// `progress` hears how many are done, of how many, and may stop the work. The first error ends it.
pub(super) fn each<T: Send>(
    count: usize,
    threads: usize,
    progress: &(dyn Fn(usize, usize) -> ControlFlow<()> + Sync),
    work: impl Fn(usize, &mut Preprocessor) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results: Mutex<Vec<Option<Result<T>>>> = Mutex::new((0..count).map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut preprocessor = Preprocessor::new();
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= count {
                        return;
                    }
                    let mut result = work(turn, &mut preprocessor);
                    let goes_on = progress(done.fetch_add(1, Ordering::Relaxed) + 1, count);
                    if result.is_ok() && goes_on.is_break() {
                        result = Err(Error::Interrupted);
                    }
                    let failed = result.is_err();
                    if let Ok(mut results) = results.lock() {
                        results[turn] = Some(result);
                    }
                    if failed {
                        next.store(count, Ordering::Relaxed);
                        return;
                    }
                }
            });
        }
    });
    let results = results.into_inner().map_err(|_| Error::Training("a worker thread panicked".to_owned()))?;
    // After an error the numbers that nobody took are missing.
    results.into_iter().flatten().collect()
}
