//! Verifications per second here and in the host's libcrypt, interleaved, so that a busy machine slows both alike.
//!
//! `cargo run --release -p mailsql-password --example speed [SECONDS]`: the median over the slices of each scheme's
//! time.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use mailsql_password::{Policy, WeakSet, host_crypt, verify};
use std::time::{Duration, Instant};

const PASSWORD: &[u8] = b"infopass";
/// Both sides take turns of this length.
const SLICE: Duration = Duration::from_millis(50);

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(4);
    let policy = Policy { allow_weak: WeakSet::ALL, ..Policy::default() };
    println!("{:<28} {:>10} {:>10} {:>7}", "", "ours/s", "libcrypt/s", "ratio");
    for setting in ["$6$saltsaltsaltsalt$", "$5$saltsaltsaltsalt$", "$1$saltsalt$", "$2b$08$abcdefghijklmnopqrstuu"] {
        let Some(stored) = host_crypt(PASSWORD, setting) else { continue };
        let ours = || verify(PASSWORD, &stored, &policy) == Ok(true);
        let theirs = || host_crypt(PASSWORD, &stored).as_ref() == Some(&stored);
        let (mut our_rates, mut their_rates) = (Vec::new(), Vec::new());
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            our_rates.push(rate(ours));
            their_rates.push(rate(theirs));
        }
        let (ours, theirs) = (median(our_rates), median(their_rates));
        println!("{setting:<28} {ours:>10.0} {theirs:>10.0} {:>7.2}", ours / theirs);
    }
}

fn rate(check: impl Fn() -> bool) -> f64 {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < SLICE {
        assert!(check(), "a value does not match its own password");
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
}
