//! Applications that ask for detections without a pause, while something else happens to those who answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::error::io;
use crate::{Error, Result};

/// Longer than any answer takes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Applications at work; they end with [`Load::end`], or with the process.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    asking: Vec<JoinHandle<Result<Answers>>>,
}

/// What they were answered.
#[derive(Debug, Default)]
pub struct Answers {
    /// How often well.
    pub good: usize,
    /// What came instead.
    pub bad: Vec<String>,
    /// The models that answered, `source` of each.
    pub sources: BTreeSet<String>,
}

impl Load {
    /// One application for each of `urls`, on a thread of its own, which asks again `pause` after an answer. It sends one of
    /// `pictures` after the other, and asks with GET if there are none.
    pub fn start(urls: impl IntoIterator<Item = String>, pictures: &[Vec<u8>], pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asking = urls.into_iter().map(|url| {
            let (stop, pictures) = (Arc::clone(&stop), pictures.to_vec());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(io("start an application"))?.block_on(ask(&url, &pictures, pause, &stop))
            })
        });
        let asking = asking.collect();
        Self { stop, asking }
    }

    /// Waits for the last answers, and gives all.
    ///
    /// # Errors
    /// An application that could not be started, or died.
    pub fn end(self) -> Result<Answers> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Answers::default();
        for asking in self.asking {
            let died = || Error::Failed { program: "an application", reason: "it died".to_owned() };
            let one = asking.join().map_err(|_| died())??;
            all.good += one.good;
            all.bad.extend(one.bad);
            all.sources.extend(one.sources);
        }
        Ok(all)
    }
}

async fn ask(url: &str, pictures: &[Vec<u8>], pause: Duration, stop: &AtomicBool) -> Result<Answers> {
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build();
    let client = client.map_err(|error| Error::Failed { program: "an application", reason: error.to_string() })?;
    let mut answers = Answers::default();
    let mut pictures = pictures.iter().cycle();
    while !stop.load(Ordering::Relaxed) {
        let request = match pictures.next() {
            Some(picture) => client.post(url).header("content-type", "image/jpeg").body(picture.clone()),
            None => client.get(url),
        };
        match request.send().await {
            Ok(answer) => {
                let status = answer.status();
                let text = answer.text().await.unwrap_or_default();
                match source(&text).filter(|_| status.is_success()) {
                    Some(source) => {
                        answers.good += 1;
                        answers.sources.insert(source);
                    }
                    None => answers.bad.push(format!("{status} {text}")),
                }
            }
            Err(error) => answers.bad.push(format!("{error:?}")),
        }
        // The processor is for those who work, too.
        tokio::time::sleep(pause).await;
    }
    Ok(answers)
}

fn source(answer: &str) -> Option<String> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let source = answer.pointer("/model/source").or_else(|| answer.get("source"))?;
    source.as_str().map(str::to_owned)
}
