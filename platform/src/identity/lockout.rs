//! Makes guessing passwords slow: after some wrong guesses an account, and the address that guesses, wait, each time longer.
//!
//! Guesses are counted in the database, so that a restart or another server forgives none. Names that do not exist are
//! counted as those that do. A session that is open goes on: nobody can be locked out of what they have.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use tokio::sync::{Mutex, MutexGuard};

use super::refusal::Refusal;
use super::store::{Store, now_millis};
use crate::Result;

/// Wrong guesses of an account's password before it must wait.
const FREE_FOR_ACCOUNT: i64 = 5;
/// The same for an address, behind which may be many people.
const FREE_FOR_ADDRESS: i64 = 30;
/// The first wait, doubled by each further guess.
const FIRST_WAIT: i64 = 1000;
/// The longest.
const LONGEST_WAIT: i64 = 15 * 60 * 1000;

/// Guesses about one account wait for one another, so that many at once count as many.
const LANES: usize = 64;

#[derive(Debug)]
pub(super) struct Lockout {
    store: Store,
    lanes: Vec<Mutex<()>>,
    hasher: RandomState,
}

/// An account and an address.
#[derive(Clone, Debug)]
pub(super) struct Guess {
    account: String,
    address: Option<String>,
}

impl Guess {
    pub(super) fn new(account: &str, address: Option<IpAddr>) -> Self {
        // One who has a network of IPv6 has more addresses than anybody can count.
        let address = address.map(|address| match address {
            IpAddr::V4(address) => format!("address {address}"),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                format!("address {a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        });
        let account: String = account.to_lowercase().chars().take(200).collect();
        Self { account: format!("account {account}"), address }
    }

    fn subjects(&self) -> impl Iterator<Item = (&str, i64)> {
        let address = self.address.iter().map(|address| (address.as_str(), FREE_FOR_ADDRESS));
        std::iter::once((self.account.as_str(), FREE_FOR_ACCOUNT)).chain(address)
    }
}

impl Lockout {
    pub(super) fn new(store: Store) -> Self {
        let lanes = (0..LANES).map(|_| Mutex::new(())).collect();
        Self { store, lanes, hasher: RandomState::new() }
    }

    /// Waits until no other guess about the account is under way in this process.
    pub(super) async fn turn(&self, guess: &Guess) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one(&guess.account);
        let lane = usize::try_from(hash % LANES as u64).unwrap_or(0);
        self.lanes[lane].lock().await
    }

    /// Refuses a guess that comes too early.
    pub(super) async fn check(&self, guess: &Guess) -> std::result::Result<(), Refusal> {
        let now = now_millis();
        for (subject, free) in guess.subjects() {
            let (failures, last) = self.store.failures(subject, now).await?;
            let wait = last + wait_after(failures, free) - now;
            if wait > 0 {
                let seconds = u64::try_from(wait).unwrap_or(0).div_ceil(1000);
                let detail = "too many wrong passwords; wait as long as `Retry-After` says";
                return Err(Refusal::too_many(detail, seconds));
            }
        }
        Ok(())
    }

    /// Counts a wrong guess.
    pub(super) async fn failed(&self, guess: &Guess) -> Result<()> {
        let now = now_millis();
        for (subject, _) in guess.subjects() {
            self.store.count_failure(subject, now).await?;
        }
        Ok(())
    }

    /// Forgets the account's wrong guesses. Those of the address stay: whoever guesses may have an account, too.
    pub(super) async fn succeeded(&self, guess: &Guess) -> Result<()> {
        self.store.forget_failures(&guess.account).await
    }
}

/// Milliseconds to wait after so many wrong guesses in a row.
fn wait_after(failures: i64, free: i64) -> i64 {
    match failures - free {
        i64::MIN..0 => 0,
        over @ 0..20 => (FIRST_WAIT << over).min(LONGEST_WAIT),
        _ => LONGEST_WAIT,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::database::Address;

    #[test]
    fn waits_grow_to_a_quarter_of_an_hour() {
        let waits: Vec<i64> = [0, 4, 5, 6, 7, 14, 15, 1000].map(|failures| wait_after(failures, 5)).to_vec();
        assert_eq!(waits, [0, 0, 1000, 2000, 4000, 512_000, 900_000, 900_000]);
    }

    #[tokio::test]
    async fn the_account_and_the_address_are_counted() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&Address::Sqlite(home.path().join("state.db"))).await.unwrap();
        let lockout = Lockout::new(store.clone());
        let here = Some("192.0.2.7".parse().unwrap());
        for _ in 0..5 {
            lockout.check(&Guess::new("Ada", here)).await.unwrap();
            lockout.failed(&Guess::new("Ada", here)).await.unwrap();
        }
        let refused = lockout.check(&Guess::new("ada", None)).await.unwrap_err();
        assert_eq!(refused.status(), 429);
        // Another process, the same database.
        Lockout::new(store.clone()).check(&Guess::new("ada", None)).await.unwrap_err();
        lockout.check(&Guess::new("grace", here)).await.unwrap();
        lockout.succeeded(&Guess::new("ADA", here)).await.unwrap();
        lockout.check(&Guess::new("ada", here)).await.unwrap();
        for name in 0..25 {
            lockout.failed(&Guess::new(&format!("name{name}"), here)).await.unwrap();
        }
        lockout.check(&Guess::new("fresh", here)).await.unwrap_err();
        lockout.check(&Guess::new("fresh", Some("192.0.2.8".parse().unwrap()))).await.unwrap();
        // Addresses of one network of IPv6 are one.
        let [one, other] = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9"].map(|text| Guess::new("x", text.parse().ok()));
        assert_eq!(one.address, other.address);
    }
}
