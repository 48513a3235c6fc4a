use super::keep::{Keep, Key};
use super::*;
use std::sync::atomic::AtomicUsize;

impl Key for u8 {
    fn weight(&self) -> usize {
        0
    }
}

impl Keep<u8> for u32 {
    type Kept = Self;

    fn keep(&self, _: &u8) -> Self {
        *self
    }

    fn give(kept: &Self, _: &u8) -> Option<Self> {
        Some(*kept)
    }

    fn weight(_: &Self) -> usize {
        0
    }
}

fn times() -> CacheTimes {
    CacheTimes { stale: Duration::from_secs(100), ..CacheTimes::default() }
}

fn answer(value: Option<u32>) -> Lookup<'static, Option<u32>> {
    Box::pin(async move { Ok(value) })
}

fn trouble() -> Lookup<'static, Option<u32>> {
    Box::pin(async { Err(Unavailable::new("db1: refused")) })
}

struct Rig {
    table: Table<u8, u32>,
    times: CacheTimes,
    stats: CacheStats,
    start: Instant,
}

impl Rig {
    fn new() -> Self {
        Self { table: Table::new(&times()), times: times(), stats: CacheStats::default(), start: Instant::now() }
    }

    async fn ask(&self, at: u64, load: Lookup<'static, Option<u32>>) -> Result<Option<u32>, Unavailable> {
        let now = self.start + Duration::from_secs(at);
        self.table.find(&1, now, &self.times, &self.stats, || load).await
    }
}

#[tokio::test]
async fn an_answer_serves_until_its_time_and_is_then_loaded_anew() {
    let rig = Rig::new();
    assert_eq!(rig.ask(0, answer(Some(1))).await, Ok(Some(1)));
    assert_eq!(rig.ask(59, answer(Some(2))).await, Ok(Some(1)));
    assert_eq!(rig.ask(60, answer(Some(2))).await, Ok(Some(2)));
    assert_eq!(rig.ask(120, answer(None)).await, Ok(None));
    assert_eq!(rig.ask(129, answer(Some(3))).await, Ok(None));
    assert_eq!(rig.ask(130, answer(Some(3))).await, Ok(Some(3)));
}

#[tokio::test]
async fn an_old_answer_serves_while_the_database_is_away() {
    let rig = Rig::new();
    assert_eq!(rig.ask(0, answer(Some(1))).await, Ok(Some(1)));
    assert_eq!(rig.ask(61, trouble()).await, Ok(Some(1)));
    assert_eq!(rig.ask(159, trouble()).await, Ok(Some(1)));
    assert!(rig.ask(161, trouble()).await.is_err());
    assert_eq!(rig.ask(163, answer(Some(2))).await, Ok(Some(2)));
}

#[tokio::test]
async fn trouble_is_remembered_for_a_moment_only() {
    let rig = Rig::new();
    assert!(rig.ask(0, trouble()).await.is_err());
    assert!(rig.ask(0, answer(Some(1))).await.is_err(), "a second client does not wait for the database again");
    assert_eq!(rig.ask(1, answer(Some(1))).await, Ok(Some(1)));
}

#[tokio::test]
async fn many_who_ask_at_once_cost_one_load() {
    let rig = Arc::new(Rig::new());
    let loads = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (rig, loads) = (Arc::clone(&rig), Arc::clone(&loads));
            tokio::spawn(async move {
                let load = Box::pin(async move {
                    loads.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok(Some(7))
                });
                rig.ask(0, load).await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(Some(7)));
    }
    assert_eq!(loads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_load_under_way_does_not_undo_an_invalidation() {
    let rig = Arc::new(Rig::new());
    let (started, go) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let slow = {
        let (rig, started, go) = (Arc::clone(&rig), Arc::clone(&started), Arc::clone(&go));
        tokio::spawn(async move {
            let load = Box::pin(async move {
                started.notify_one();
                go.notified().await;
                Ok(Some(1))
            });
            rig.ask(0, load).await
        })
    };
    started.notified().await;
    rig.table.forget(&1);
    assert_eq!(rig.ask(0, answer(Some(2))).await, Ok(Some(2)));
    go.notify_one();
    assert_eq!(slow.await.unwrap(), Ok(Some(1)), "who asked before gets what was so then");
    assert_eq!(rig.ask(0, answer(Some(3))).await, Ok(Some(2)));
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_take_the_others_answer_with_it() {
    let rig = Arc::new(Rig::new());
    let first = {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move { rig.ask(0, Box::pin(std::future::pending())).await })
    };
    tokio::task::yield_now().await;
    let second = {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move { rig.ask(0, answer(Some(2))).await })
    };
    tokio::task::yield_now().await;
    first.abort();
    assert_eq!(second.await.unwrap(), Ok(Some(2)));
}

/// A database in which every address is an account with a password of this length.
struct Everybody(usize);

impl Directory for Everybody {
    fn domains(&self) -> Lookup<'_, Vec<Box<str>>> {
        Box::pin(async { Ok(vec!["example.jp".into()]) })
    }

    fn domain<'a>(&'a self, _: &'a str) -> Lookup<'a, Option<Box<str>>> {
        Box::pin(async { Ok(Some("example.jp".into())) })
    }

    fn account<'a>(&'a self, address: &'a Address) -> Lookup<'a, Option<Arc<Account>>> {
        let account = Account::new(address.clone(), Some("x".repeat(self.0).into()));
        Box::pin(async move { Ok(Some(Arc::new(account))) })
    }

    fn alias<'a>(&'a self, _: &'a Address) -> Lookup<'a, Option<Destinations>> {
        Box::pin(async { Ok(None) })
    }

    fn catch_all<'a>(&'a self, _: &'a str) -> Lookup<'a, Option<Destinations>> {
        Box::pin(async { Ok(None) })
    }
}

#[tokio::test]
async fn memory_is_bounded_in_entries_and_in_bytes() {
    for (length, entries, bytes) in [(10, 500, 64 << 20), (2000, 100_000, 1 << 20), (10, 20, 1 << 20)] {
        let times = CacheTimes { entries, bytes, ..CacheTimes::default() };
        let directory = CachedDirectory::new(Arc::new(Everybody(length)), times);
        for number in 0..5000 {
            let address = Address::parse(&format!("user{number}@example.jp")).unwrap();
            assert!(directory.account(&address).await.unwrap().is_some());
        }
        let (held, weight) = directory.size();
        assert!(held >= 1 && held <= entries as u64, "{held} of {entries}");
        assert!(weight <= bytes / 2, "{weight} of {bytes}");
        assert!(held as usize * length <= bytes as usize / 2);
        assert!(
            held >= (entries as u64).min(bytes / 2 / (length as u64 + 300)) / 2,
            "{held}: far fewer than there is room for"
        );
    }
}

#[tokio::test]
async fn a_change_that_is_fed_forgets_what_it_touches() {
    let directory = CachedDirectory::new(Arc::new(Everybody(10)), CacheTimes::default());
    let address = Address::parse("info@example.jp").unwrap();
    for change in
        [crate::Change::Address(address.clone()), crate::Change::Domain("example.jp".into()), crate::Change::Everything]
    {
        directory.account(&address).await.unwrap();
        assert_eq!(directory.size().0, 1);
        directory.apply(&change);
        assert_eq!(directory.size().0, 0, "{change:?}");
    }
}
