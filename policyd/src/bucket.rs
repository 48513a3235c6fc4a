//! The token bucket: pure arithmetic.
//!
//! A bucket holds `burst` tokens when full and regains `limit` of them in `per`. It is kept as the one moment at which it will be
//! full again, so a full bucket is the same as none, nothing drains in the background, and a restart loses nothing.
//! Taking `n` tokens moves that moment by `n × per ÷ limit`; it may lie `burst × per ÷ limit` ahead at most.
//!
//! Rounding: times are whole nanoseconds, rounded down per taking and for the whole bucket. `burst` tokens are always there; one more
//! could be only where a token lasts less than `burst` nanoseconds, that is for rates of more than 10⁹ ÷ burst a second.
//!
//! A clock set back shows as a bucket that is further ahead than it can be; it counts as empty, so that it is full again in its
//! time and not when the clock is back.

/// How fast, and how much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Tokens regained in `per`; 0 for never any.
    pub(crate) limit: u64,
    /// Nanoseconds.
    pub(crate) per: u64,
    /// Tokens of a full bucket.
    pub(crate) burst: u64,
}

/// A bucket: when it will be full, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bucket(pub(crate) u64);

impl Pace {
    /// The time in which this many tokens are regained.
    fn time_of(self, tokens: u64) -> u64 {
        if self.limit == 0 {
            return if tokens == 0 { 0 } else { u64::MAX };
        }
        let time = u128::from(tokens) * u128::from(self.per) / u128::from(self.limit);
        u64::try_from(time).unwrap_or(u64::MAX)
    }

    /// The time in which an empty bucket becomes full.
    pub(crate) fn whole(self) -> u64 {
        if self.limit == 0 { self.per } else { self.time_of(self.burst) }
    }
}

impl Bucket {
    /// Takes tokens, or says how many nanoseconds too early that is. What a full bucket does not hold is never there: then the time is
    /// that until it is full.
    pub(crate) fn take(self, tokens: u64, pace: Pace, now: u64) -> Result<Self, u64> {
        let ahead = self.0.saturating_sub(now).min(pace.whole());
        if tokens == 0 {
            return Ok(Self(now.saturating_add(ahead)));
        }
        if pace.limit == 0 || tokens > pace.burst {
            return Err(ahead.max(if pace.limit == 0 { pace.per } else { 1 }));
        }
        let wanted = ahead.saturating_add(pace.time_of(tokens));
        match wanted.checked_sub(pace.whole()) {
            None | Some(0) => Ok(Self(now.saturating_add(wanted))),
            Some(early) => Err(early),
        }
    }

    /// Puts tokens back that were taken too many.
    pub(crate) fn give(self, tokens: u64, pace: Pace, now: u64) -> Self {
        let ahead = self.0.saturating_sub(now).min(pace.whole());
        Self(now.saturating_add(ahead.saturating_sub(pace.time_of(tokens))))
    }

    /// Tokens that are there.
    pub(crate) fn level(self, pace: Pace, now: u64) -> u64 {
        if pace.limit == 0 {
            return 0;
        }
        let ahead = self.0.saturating_sub(now).min(pace.whole());
        let taken = (u128::from(ahead) * u128::from(pace.limit)).div_ceil(u128::from(pace.per.max(1)));
        pace.burst.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::SECOND;
    use proptest::prelude::*;

    const NOW: u64 = 1_700_000_000 * SECOND;

    fn pace(limit: u64, per: u64, burst: u64) -> Pace {
        Pace { limit, per: per * SECOND, burst }
    }

    /// How many single tokens can be had at `now`.
    fn drain(mut bucket: Bucket, pace: Pace, now: u64) -> (u64, Bucket) {
        let mut had = 0;
        while let Ok(next) = bucket.take(1, pace, now) {
            (bucket, had) = (next, had + 1);
        }
        (had, bucket)
    }

    #[test]
    fn a_bucket_holds_its_burst_and_regains_its_limit() {
        let one = pace(1, 1, 20);
        let (had, empty) = drain(Bucket::default(), one, NOW);
        assert_eq!(had, 20);
        for (after, level) in [(0, 0), (1, 1), (2, 2), (19, 19), (20, 20), (1000, 20)] {
            let now = NOW + after * SECOND;
            assert_eq!(empty.level(one, now), level, "{after}");
            assert_eq!(drain(empty, one, now).0, level, "{after}");
        }
        assert_eq!(empty.take(1, one, NOW + SECOND - 1), Err(1));
        assert_eq!(empty.take(5, one, NOW), Err(5 * SECOND));
        assert_eq!(empty.take(21, one, NOW), Err(20 * SECOND), "more than it holds is never there");
    }

    #[test]
    fn odd_paces_come_out_exactly() {
        for (pace, burst) in [
            (pace(3, 1, 7), 7),
            (pace(7, 3600, 1000), 1000),
            (pace(60, 60, 20), 20),
            (pace(1, 86_400, 1), 1),
            (pace(0, 60, 20), 0),
            (pace(5, 60, 0), 0),
        ] {
            let (had, empty) = drain(Bucket::default(), pace, NOW);
            assert_eq!(had, burst, "{pace:?}");
            if burst > 0 {
                assert_eq!(drain(empty, pace, NOW + pace.whole()).0, burst, "{pace:?}");
            }
        }
    }

    #[test]
    fn bytes_are_counted_to_the_byte() {
        let gigabyte = pace(1 << 30, 3600, 1 << 20);
        let bucket = Bucket::default().take((1 << 20) - 1, gigabyte, NOW).unwrap();
        assert!(bucket.take(1, gigabyte, NOW).is_ok());
        assert!(bucket.take(2, gigabyte, NOW).is_err());
        assert_eq!(bucket.give((1 << 20) - 1, gigabyte, NOW).level(gigabyte, NOW), 1 << 20);
    }

    #[test]
    fn a_clock_that_is_set_back_delays_no_longer_than_an_empty_bucket() {
        let one = pace(1, 1, 20);
        let (_, empty) = drain(Bucket::default(), one, NOW + 100_000 * SECOND);
        assert_eq!(empty.level(one, NOW), 0);
        let bucket = empty.take(0, one, NOW).unwrap();
        assert_eq!(bucket.level(one, NOW + 20 * SECOND), 20);
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_time_allow(
            limit in 1..1000u64,
            per in 1..10_000u64,
            burst in 1..1000u64,
            steps in proptest::collection::vec((0..100_000_000_000u64, 0..50u64), 1..60),
        ) {
            let pace = pace(limit, per, burst);
            let (mut bucket, mut now, mut taken) = (Bucket::default(), NOW, 0u128);
            for (pause, tokens) in steps {
                now += pause;
                let before = bucket.level(pace, now);
                match bucket.take(tokens, pace, now) {
                    Ok(next) => {
                        bucket = next;
                        taken += u128::from(tokens);
                    }
                    // Whoever is told to wait gets it after exactly that long.
                    Err(wait) if tokens <= burst => {
                        prop_assert!(tokens > before);
                        prop_assert!(bucket.take(tokens, pace, now + wait - 1).is_err());
                        prop_assert!(bucket.take(tokens, pace, now + wait).is_ok());
                    }
                    Err(_) => {}
                }
                let time = u128::from(now - NOW);
                // The last one is for nanoseconds rounded away, one a taking.
                let allowed = u128::from(burst) + (time * u128::from(limit)).div_ceil(u128::from(pace.per)) + 1;
                prop_assert!(taken <= allowed, "{} of {}", taken, allowed);
                prop_assert!(bucket.level(pace, now) <= burst);
            }
        }

        #[test]
        fn what_is_given_back_is_there_again(limit in 1..1000u64, per in 1..1000u64, burst in 1..1000u64, tokens in 0..1000u64) {
            let pace = pace(limit, per, burst);
            let full = Bucket::default();
            if let Ok(taken) = full.take(tokens, pace, NOW) {
                prop_assert_eq!(taken.give(tokens, pace, NOW).level(pace, NOW), burst);
                prop_assert!(taken.level(pace, NOW) <= burst - tokens + 1);
            }
        }
    }
}
