//! Which server is asked. Pure: the state of all servers is an argument.
//!
//! Servers are preferred in the order of the url. A read goes to the first that is in use and serves anything; one that
//! has rested is probed by a read only when nobody else is left (the watch probes it otherwise). After a change of our
//! own, reads go to the server that made it for a while, if it can be asked. A write goes to the first writer.

use super::breaker::Pass;
use super::health::Role;

/// A server as the choice sees it.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Its breaker.
    pub(super) pass: Pass,
    /// What it is good for, if that is known.
    pub(super) role: Option<Role>,
    /// How often this question has failed there.
    pub(super) failed: u8,
}

/// The server for a read, by its place in the url. `pinned` is the one that our own last change went to.
pub(super) fn reader(hosts: &[Candidate], pinned: Option<usize>) -> Option<usize> {
    let usable = |host: &Candidate| !matches!(host.role, Some(Role::Nothing(_))) && !matches!(host.pass, Pass::Shut(_));
    let ranked = hosts.iter().enumerate().filter(|(_, host)| usable(host));
    ranked.min_by_key(|(at, host)| (host.failed, host.pass, Some(*at) != pinned, *at)).map(|(at, _)| at)
}

/// The server for a write; a server of unknown role is to be looked at first.
pub(super) fn writer(hosts: &[Candidate]) -> Option<usize> {
    let usable =
        |host: &Candidate| matches!(host.role, Some(Role::Writer) | None) && !matches!(host.pass, Pass::Shut(_));
    let ranked = hosts.iter().enumerate().filter(|(_, host)| usable(host));
    ranked.min_by_key(|(at, host)| (host.failed, host.pass, *at)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn candidates(text: &str) -> Vec<Candidate> {
        let until = Instant::now();
        text.split(' ')
            .map(|word| {
                let mut candidate = Candidate { pass: Pass::Free, role: Some(Role::Writer), failed: 0 };
                for letter in word.chars() {
                    match letter {
                        'w' => candidate.role = Some(Role::Writer),
                        'r' => candidate.role = Some(Role::Reader("read_only".into())),
                        'n' => candidate.role = Some(Role::Nothing("joining".into())),
                        '?' => candidate.role = None,
                        's' => candidate.pass = Pass::Shut(until),
                        'p' => candidate.pass = Pass::Probe,
                        'f' => candidate.failed += 1,
                        other => panic!("{other}"),
                    }
                }
                candidate
            })
            .collect()
    }

    #[test]
    fn servers_are_chosen_by_what_they_can_and_by_their_place() {
        for (hosts, pinned, read, write) in [
            ("w w w", None, Some(0), Some(0)),
            ("s w w", None, Some(1), Some(1)),
            ("p w w", None, Some(1), Some(1)),
            ("s p s", None, Some(1), Some(1)),
            ("s s s", None, None, None),
            ("n n r", None, Some(2), None),
            ("n n n", None, None, None),
            ("r w w", None, Some(0), Some(1)),
            ("r w w", Some(1), Some(1), Some(1)),
            ("r s w", Some(1), Some(0), Some(2)),
            ("r pw w", Some(1), Some(0), Some(2)),
            ("wf w w", None, Some(1), Some(1)),
            ("wf ws ws", None, Some(0), Some(0)),
            ("wff wf w", None, Some(2), Some(2)),
            ("? w", None, Some(0), Some(0)),
            ("r ?", None, Some(0), Some(1)),
        ] {
            let hosts_seen = candidates(hosts);
            assert_eq!((reader(&hosts_seen, pinned), writer(&hosts_seen)), (read, write), "{hosts} {pinned:?}");
        }
    }
}
