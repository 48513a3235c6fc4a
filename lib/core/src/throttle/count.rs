//! A count that drains with time, and whether it lets one more through.

/// What a count is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The count at which it is full.
    pub most: u32,
    /// Milliseconds in which a full count drains.
    pub window: i64,
    /// Whether a full count refuses for a whole window, instead of only until one has drained.
    pub shuts: bool,
}

/// Whether one more may try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// All places are held by tries whose outcome is not known yet.
    Busy,
    /// It may not.
    Shut,
}

/// A count in thousandths, with those who hold a place in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    level: u32,
    /// When the level was that (Unix milliseconds).
    at: i64,
    /// Refused until then (Unix milliseconds); 0 where it is not.
    until: i64,
    held: u32,
}

impl Count {
    /// A count from what was written down.
    #[must_use]
    pub fn restored(level: u32, at: i64, until: i64) -> Self {
        Self { level, at, until, held: 0 }
    }

    /// Level, moment and end of refusal, to be written down.
    #[must_use]
    pub fn parts(&self) -> (u32, i64, i64) {
        (self.level, self.at, self.until)
    }

    /// The level in thousandths at `now`. A clock that was set back drains nothing.
    #[must_use]
    pub fn level(&self, limit: Limit, now: i64) -> u32 {
        let age = now.saturating_sub(self.at).clamp(0, limit.window);
        let drained = i128::from(age) * i128::from(limit.most) * 1000 / i128::from(limit.window.max(1));
        self.level.saturating_sub(u32::try_from(drained).unwrap_or(u32::MAX))
    }

    /// Milliseconds for which it refuses from `now` on.
    #[must_use]
    pub fn refuses_for(&self, limit: Limit, now: i64) -> i64 {
        if self.until > now {
            // A clock that was set back must not lock anybody out for years.
            return (self.until - now).min(limit.window);
        }
        let over = (i64::from(self.level(limit, now)) + 1000 - i64::from(limit.most) * 1000).max(0);
        // Rounded up: at that moment it does let one through.
        (over * limit.window + i64::from(limit.most) * 1000 - 1) / (i64::from(limit.most) * 1000)
    }

    /// Whether one more may try at `now`.
    #[must_use]
    pub fn gate(&self, limit: Limit, now: i64) -> Gate {
        if self.until > now && self.until - now <= limit.window {
            return Gate::Shut;
        }
        let level = u64::from(self.level(limit, now));
        let most = u64::from(limit.most) * 1000;
        if level + 1000 > most {
            Gate::Shut
        } else if level + (u64::from(self.held) + 1) * 1000 > most {
            Gate::Busy
        } else {
            Gate::Open
        }
    }

    pub(crate) fn held(&self) -> u32 {
        self.held
    }

    pub(crate) fn take(&mut self) {
        self.held += 1;
    }

    /// Ends a hold; with a limit, the place counts for good.
    pub(crate) fn give_back(&mut self, counts: Option<Limit>, now: i64) {
        self.held = self.held.saturating_sub(1);
        let Some(limit) = counts else { return };
        self.level = self.level(limit, now).saturating_add(1000);
        self.at = now;
        if limit.shuts && u64::from(self.level) + 1000 > u64::from(limit.most) * 1000 {
            self.until = now + limit.window;
        }
    }

    /// Whether nothing is lost when it is forgotten.
    pub(crate) fn idle(&self, limit: Limit, now: i64) -> bool {
        self.held == 0 && self.until <= now && self.level(limit, now) == 0
    }
}
