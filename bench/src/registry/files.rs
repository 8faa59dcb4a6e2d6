//! A large artifact up and down, beside the bare disk and a bare connection.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{Advice, fadvise, sendfile};

use super::contestant::Contestant;
use crate::error::{Error, Result};
use crate::http::Connection;

/// Bytes that are written and read at once.
const PIECE: usize = 1 << 20;
const TARGET: &str = "/api/2.0/mlflow-artifacts/artifacts";

/// MiB a second, of every round.
#[derive(Debug, Default)]
pub(super) struct Rates {
    pub(super) up: Vec<f64>,
    pub(super) down: Vec<f64>,
}

/// Writes the file that is sent, of bytes that do not compress.
pub(super) fn make(path: &Path, mebibytes: usize) -> Result<()> {
    use rand::{Rng, SeedableRng};
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let mut file = File::create(path).map_err(Error::io(path))?;
    let mut piece = vec![0; PIECE];
    for _ in 0..mebibytes {
        random.fill_bytes(&mut piece);
        file.write_all(&piece).map_err(Error::io(path))?;
    }
    file.sync_all().map_err(Error::io(path))
}

/// The bare disk: the file copied to another one and flushed, and that one read from the disk. The copy is removed.
pub(super) fn bare(rates: &mut Rates, source: &Path, folder: &Path) -> Result<()> {
    let copy = folder.join("bare");
    let mut piece = vec![0; PIECE];
    let mut from = File::open(source).map_err(Error::io(source))?;
    let began = Instant::now();
    let mut to = File::create(&copy).map_err(Error::io(&copy))?;
    let mut bytes = 0;
    loop {
        let count = from.read(&mut piece).map_err(Error::io(source))?;
        if count == 0 {
            break;
        }
        to.write_all(&piece[..count]).map_err(Error::io(&copy))?;
        bytes += count as u64;
    }
    to.sync_all().map_err(Error::io(&copy))?;
    rates.up.push(rate(bytes, began));
    drop(to);
    forget(&copy)?;
    let began = Instant::now();
    let mut from = File::open(&copy).map_err(Error::io(&copy))?;
    while from.read(&mut piece).map_err(Error::io(&copy))? > 0 {}
    rates.down.push(rate(bytes, began));
    std::fs::remove_file(&copy).map_err(Error::io(&copy))
}

/// What a server could do at most: a file that is not in the system's cache, sent by the kernel (`sendfile`) over
/// loopback to a client that does nothing but read. MiB a second.
pub(super) fn sent_by_the_kernel(source: &Path) -> Result<f64> {
    let failed = || Error::io("a bare connection");
    forget(source)?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed())?;
    let address = listener.local_addr().map_err(failed())?;
    let file = File::open(source).map_err(Error::io(source))?;
    let began = Instant::now();
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        let (client, _) = listener.accept()?;
        while sendfile(&client, &file, None, PIECE)? > 0 {}
        Ok(())
    });
    let mut client = TcpStream::connect(address).map_err(failed())?;
    let (mut piece, mut bytes) = (vec![0; PIECE], 0);
    loop {
        match client.read(&mut piece).map_err(failed())? {
            0 => break,
            count => bytes += count as u64,
        }
    }
    let rate = rate(bytes, began);
    let sent = sender.join().map_err(|_| Error::failed("a bare connection", "its thread panicked".to_owned()))?;
    sent.map_err(failed())?;
    Ok(rate)
}

/// The same through a server.
pub(super) async fn through(rates: &mut Rates, server: &Contestant, source: &Path, name: &str) -> Result<()> {
    let bytes = source.metadata().map_err(Error::io(source))?.len();
    let target = format!("{TARGET}/bench/{name}");
    let began = Instant::now();
    Connection::open(server.port).await?.upload(&target, source).await?;
    rates.up.push(rate(bytes, began));
    let stored = server.file(&format!("bench/{name}"));
    forget(&stored)?;
    let began = Instant::now();
    let length = Connection::open(server.port).await?.download(&target).await?;
    rates.down.push(rate(length, began));
    if length != bytes {
        return Err(Error::failed("a download", format!("{length} bytes came back of {bytes}")));
    }
    std::fs::remove_file(&stored).map_err(Error::io(&stored))
}

fn rate(bytes: u64, began: Instant) -> f64 {
    bytes as f64 / f64::from(1 << 20) / began.elapsed().as_secs_f64()
}

/// Lets the system's cache forget a file, so that it comes from the disk.
fn forget(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(Error::io(path))?;
    // What is not on the disk yet cannot be forgotten.
    file.sync_all().map_err(Error::io(path))?;
    fadvise(&file, 0, None, Advice::DontNeed).map_err(|error| Error::io(path)(error.into()))
}
