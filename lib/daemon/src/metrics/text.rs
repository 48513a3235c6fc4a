//! The text of `/metrics`: what the store, the cache and the verifier count, under names that begin with `mailsql_`.

use crate::Shared;
use mailsql_store::mysql::{Class, HostReport, LATENCY_BUCKETS};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// One metric's lines.
struct Text(String);

impl Text {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = write!(self.0, "# HELP mailsql_{name} {help}\n# TYPE mailsql_{name} {kind}\n");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escape(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "mailsql_{name}{labels} {value}");
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Why the database cannot be asked now, if it cannot.
pub(super) fn trouble(shared: &Shared) -> Option<String> {
    let hosts = shared.store.hosts();
    let away = |host: &HostReport<'_>| host.breaker == "open" || host.role == "nothing";
    if hosts.is_empty() || !hosts.iter().all(away) {
        return None;
    }
    Some(
        hosts
            .iter()
            .map(|host| format!("{}: breaker {}, serves {}\n", host.endpoint, host.breaker, host.role))
            .collect(),
    )
}

/// All metrics.
pub(super) fn render(shared: &Shared) -> String {
    let mut text = Text(String::with_capacity(8192));
    text.metric("build_info", "gauge", "What this is.");
    text.value("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.metric("uptime_seconds", "gauge", "Since the start of the process.");
    text.value("uptime_seconds", &[], shared.started.elapsed().as_secs());
    database(&mut text, &shared.store.hosts());
    cache(&mut text, shared);
    hashing(&mut text, shared);
    text.0
}

fn database(text: &mut Text, hosts: &[HostReport<'_>]) {
    if hosts.is_empty() {
        return;
    }
    text.metric("database_query_seconds", "histogram", "Time to an answer, once a connection was there.");
    for host in hosts {
        let latency = &host.counters.latency;
        let mut sum = 0;
        for (bucket, bound) in latency.buckets.iter().zip(LATENCY_BUCKETS.iter().map(Some).chain([None])) {
            sum += count(bucket);
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |micros| seconds(*micros));
            text.value("database_query_seconds_bucket", &[("host", &host.endpoint), ("le", &bound)], sum);
        }
        text.value("database_query_seconds_sum", &[("host", &host.endpoint)], seconds(count(&latency.sum)));
        text.value("database_query_seconds_count", &[("host", &host.endpoint)], sum);
    }
    text.metric("database_errors_total", "counter", "Failures by class.");
    for host in hosts {
        for class in Class::ALL {
            let labels = [("host", host.endpoint.as_str()), ("class", class.word())];
            text.value("database_errors_total", &labels, host.counters.errors(class));
        }
    }
    text.metric("database_retries_total", "counter", "Questions tried again after a failure of this server.");
    each(text, hosts, "database_retries_total", |host| count(&host.counters.retried));
    text.metric("database_breaker_opened_total", "counter", "Times that this server was given up for a while.");
    each(text, hosts, "database_breaker_opened_total", |host| count(&host.counters.opened));
    text.metric("database_breaker", "gauge", "1 for the state that the breaker of this server is in.");
    states(text, hosts, "database_breaker", "state", &["closed", "half-open", "open"], |host| host.breaker);
    text.metric("database_role", "gauge", "1 for what this server is good for.");
    states(text, hosts, "database_role", "role", &["writer", "reader", "nothing", "unknown"], |host| host.role);
    text.metric("database_connections_open", "gauge", "Connections to this server.");
    each(text, hosts, "database_connections_open", |host| host.open);
    text.metric("database_connections_in_use", "gauge", "Connections at work.");
    each(text, hosts, "database_connections_in_use", |host| host.in_use);
    text.metric("database_connections_max", "gauge", "Connections at most.");
    each(text, hosts, "database_connections_max", |host| host.limit);
    text.metric("database_waiting", "gauge", "Questions that wait for a connection.");
    each(text, hosts, "database_waiting", |host| host.waiting);
}

fn each<T: std::fmt::Display>(
    text: &mut Text,
    hosts: &[HostReport<'_>],
    name: &str,
    of: impl Fn(&HostReport<'_>) -> T,
) {
    for host in hosts {
        text.value(name, &[("host", &host.endpoint)], of(host));
    }
}

fn states(
    text: &mut Text,
    hosts: &[HostReport<'_>],
    name: &str,
    label: &str,
    known: &[&str],
    of: impl Fn(&HostReport<'_>) -> &'static str,
) {
    for host in hosts {
        for state in known {
            text.value(name, &[("host", host.endpoint.as_str()), (label, state)], u8::from(of(host) == *state));
        }
    }
}

fn cache(text: &mut Text, shared: &Shared) {
    let stats = shared.directory.stats();
    text.metric("cache_answers_total", "counter", "Answers given from memory, by kind.");
    for (kind, counter) in [("positive", &stats.hits), ("negative", &stats.negative_hits), ("stale", &stats.stale_hits)]
    {
        text.value("cache_answers_total", &[("kind", kind)], count(counter));
    }
    text.metric("cache_loads_total", "counter", "Questions that went to the database.");
    text.value("cache_loads_total", &[], count(&stats.loads));
    text.metric("cache_failures_total", "counter", "Questions that nobody could answer.");
    text.value("cache_failures_total", &[], count(&stats.failures));
    let (entries, bytes) = shared.directory.size();
    text.metric("cache_entries", "gauge", "Answers remembered.");
    text.value("cache_entries", &[], entries);
    text.metric("cache_bytes", "gauge", "What they weigh, about.");
    text.value("cache_bytes", &[], bytes);
}

fn hashing(text: &mut Text, shared: &Shared) {
    let stats = shared.authenticator.verifier().stats();
    text.metric("password_hashes_total", "counter", "Passwords verified by computing their hash.");
    text.value("password_hashes_total", &[], stats.hashes);
    text.metric("password_hashes_waiting", "gauge", "Verifications that wait for a processor.");
    text.value("password_hashes_waiting", &[], stats.waiting);
    text.metric("password_hashes_refused_total", "counter", "Verifications refused because too many wait.");
    text.value("password_hashes_refused_total", &[], stats.overloaded);
}

/// Microseconds in seconds, without the error of a floating point number.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_prometheus_reads_them() {
        let mut text = Text(String::new());
        text.metric("x_total", "counter", "Help.");
        text.value("x_total", &[("host", "a\"b\\c\n")], 3);
        text.value("x_total", &[], 4);
        let expected = "# HELP mailsql_x_total Help.\n# TYPE mailsql_x_total counter\n\
                        mailsql_x_total{host=\"a\\\"b\\\\c\\n\"} 3\nmailsql_x_total 4\n";
        assert_eq!(text.0, expected);
    }

    #[test]
    fn microseconds_are_written_in_seconds() {
        for (micros, expected) in
            [(0, "0"), (250, "0.00025"), (1_000_000, "1"), (2_500_000, "2.5"), (10_000_001, "10.000001")]
        {
            assert_eq!(seconds(micros), expected);
        }
    }
}
