//! A message on its way in: in memory while it is small, beyond that in the first recipient's own file.
//!
//! Memory stays below [`MEMORY_MAX`] and what one read brings, whatever the size of the message and the number of
//! recipients. The spool is the file that the first recipient will have: their header, then the body as it comes; the
//! other recipients' files get the body by `copy_file_range`, each behind a header of its own.
//!
//! Trouble with the spool does not stop the reading: the dialogue goes on to its end, and each recipient hears of it.

use crate::deliver;
use crate::maildir::{Pending, count_lines};
use crate::message::Scan;
use crate::reply::Outcome;
use crate::site::Site;
use crate::transaction::Transaction;
use crate::trouble::Trouble;
use std::fs::File;
use std::sync::{Arc, Mutex};

/// Most bytes of a message that are kept in memory. The header section is looked for in as many.
pub(crate) const MEMORY_MAX: usize = 128 << 10;

/// A complete message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) scan: Scan,
    pub(crate) body: Body,
    /// Bytes, without what deliveries put before it.
    pub(crate) size: u64,
    /// Line ends among them.
    pub(crate) lines: u64,
}

/// Where its bytes are.
#[derive(Debug)]
pub(crate) enum Body {
    Memory(Vec<u8>),
    Spool(Spool),
}

/// The file of a recipient that holds the message for all.
#[derive(Debug)]
pub(crate) struct Spool {
    /// The recipient whose file it is.
    pub(crate) owner: usize,
    /// The owner's delivery takes it from here.
    pub(crate) pending: Mutex<Option<Pending>>,
    /// The same file, for the others.
    pub(crate) file: File,
    /// Length of the owner's header.
    pub(crate) offset: u64,
}

/// A message that is not complete yet.
#[derive(Debug)]
pub(crate) struct Intake {
    site: Arc<Site>,
    transaction: Arc<Transaction>,
    /// The decoder appends here.
    pub(crate) buffer: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    Memory,
    Spool(Spooling),
    /// The rest is read and dropped.
    Lost(Outcome),
}

/// A spool that is being written.
#[derive(Debug)]
struct Spooling {
    scan: Scan,
    owner: usize,
    pending: Pending,
    /// Length of the owner's header, and its lines.
    offset: u64,
    header_lines: u64,
}

impl Spooling {
    /// Bytes and line ends of the message so far.
    fn body(&self) -> (u64, u64) {
        (self.pending.size() - self.offset, self.pending.lines() - self.header_lines)
    }
}

impl Intake {
    pub(crate) fn new(site: Arc<Site>, transaction: Arc<Transaction>) -> Self {
        Self { site, transaction, buffer: Vec::new(), state: State::Memory }
    }

    /// Drops what came and what will come: the message is over the limit.
    pub(crate) fn overflow(&mut self) {
        self.state = State::Lost(Outcome::TooLarge);
        self.buffer = Vec::new();
    }

    /// Makes room in memory where it is needed.
    pub(crate) async fn relieve(&mut self) {
        match self.state {
            State::Lost(_) => self.buffer.clear(),
            State::Memory | State::Spool(_) if self.buffer.len() >= MEMORY_MAX => self.spill().await,
            State::Memory | State::Spool(_) => {}
        }
    }

    /// The message, now that its end came; or what every recipient will hear instead.
    pub(crate) async fn finish(mut self) -> (Arc<Transaction>, Result<Message, Outcome>) {
        if matches!(self.state, State::Spool(_)) {
            self.spill().await;
        }
        let message = match self.state {
            State::Lost(outcome) => Err(outcome),
            State::Memory => {
                let mut bytes = self.buffer;
                let scan = Scan::take(&mut bytes);
                if bytes.last().is_some_and(|last| *last != b'\n') {
                    bytes.push(b'\n');
                }
                let (size, lines) = (bytes.len() as u64, count_lines(&bytes));
                Ok(Message { scan, body: Body::Memory(bytes), size, lines })
            }
            State::Spool(mut spooling) => {
                let finished = self.site.work(move || {
                    spooling.pending.end_line()?;
                    let ((size, lines), file) = (spooling.body(), spooling.pending.handle()?);
                    let Spooling { scan, owner, pending, offset, .. } = spooling;
                    let spool = Spool { owner, pending: Mutex::new(Some(pending)), file, offset };
                    Ok(Message { scan, body: Body::Spool(spool), size, lines })
                });
                finished.await.map_err(Outcome::Failed)
            }
        };
        (self.transaction, message)
    }

    /// Writes the buffer to the spool, which is opened where there is none yet.
    async fn spill(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Memory);
        let mut buffer = std::mem::take(&mut self.buffer);
        let (site, transaction) = (Arc::clone(&self.site), Arc::clone(&self.transaction));
        let written = self.site.work(move || {
            let state = match state {
                State::Memory => {
                    let scan = Scan::take(&mut buffer);
                    open(&site, &transaction, scan, None, &buffer)?
                }
                State::Spool(mut spooling) => match spooling.pending.append(&buffer) {
                    Ok(()) => State::Spool(spooling),
                    Err(trouble) => move_on(&site, &transaction, spooling, &buffer).map_err(|_| trouble)?,
                },
                lost @ State::Lost(_) => lost,
            };
            buffer.clear();
            Ok((state, buffer))
        });
        match written.await {
            Ok((state, buffer)) => (self.state, self.buffer) = (state, buffer),
            Err(trouble) => self.state = State::Lost(Outcome::Failed(trouble)),
        }
    }
}

/// Opens the file of the first recipient whose mailbox takes one, behind the one who had it before, and puts `buffer`
/// into it, behind what the one before had of the message.
fn open(
    site: &Site,
    transaction: &Transaction,
    scan: Scan,
    before: Option<&Spooling>,
    buffer: &[u8],
) -> Result<State, Trouble> {
    let mut first = None;
    let from = before.map_or(0, |before| before.owner + 1);
    for owner in from..transaction.targets.len() {
        let header = transaction.header(site, owner, &scan);
        let begin = || -> Result<(Pending, u64, u64), Trouble> {
            let mut pending = site.store.begin(&deliver::folder(site, &transaction.targets[owner])?)?;
            pending.append(&header)?;
            let (offset, header_lines) = (pending.size(), pending.lines());
            if let Some(before) = before {
                let (length, lines) = before.body();
                pending.append_from(&before.pending.handle()?, before.offset, length, lines)?;
            }
            pending.append(buffer)?;
            Ok((pending, offset, header_lines))
        };
        match begin() {
            Ok((pending, offset, header_lines)) => {
                return Ok(State::Spool(Spooling { scan, owner, pending, offset, header_lines }));
            }
            Err(trouble) => first = first.or(Some(trouble)),
        }
    }
    Err(first.unwrap_or_else(|| Trouble::broken(&site.store.root)))
}

/// The mailbox of the spool's owner is full or broken: the others must not suffer for it. What is written so far goes
/// on in the file of one of them; the owner's own delivery will meet the trouble again, and tell of it.
fn move_on(site: &Site, transaction: &Transaction, spooling: Spooling, buffer: &[u8]) -> Result<State, Trouble> {
    open(site, transaction, spooling.scan.clone(), Some(&spooling), buffer)
}
