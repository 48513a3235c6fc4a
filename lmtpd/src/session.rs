//! One connection, from greeting to goodbye.
//!
//! Replies are gathered while more commands lie in the buffer and sent before anything is waited for: a pipelined MAIL,
//! RCPT, RCPT, DATA costs one read and one write. After the end of a message each reply is sent as soon as its delivery
//! and those before it are done, so that a client which loses the connection has heard of all that is on disk.

use crate::intake::{Intake, Message};
use crate::log::{self, printable};
use crate::message;
use crate::reply::{Outcome, Verdict};
use crate::site::Site;
use crate::transaction::{Target, Transaction};
use crate::wire::{COMMAND_ROOM, DATA_ROOM, Gone, Wire};
use mailsql_daemon::{Peer, Shutdown, Stream};
use mailsql_proto::lmtp::{self, Action, ChunkDecoder, DataDecoder, Envelope, Forwarded, Recipient, Reply, Session};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;

/// Deliveries of one message that are under way at once. More would let one message to many take all the workers.
const DELIVERIES_AT_ONCE: usize = 16;

const SHUTTING_DOWN: Reply = Reply::fixed(421, (3, 2), "Service is shutting down, try again later");
const TOO_SLOW: Reply = Reply::fixed(421, (4, 2), "Timeout, closing connection");

/// Serves one client.
pub(crate) async fn serve(stream: Stream, site: Arc<Site>, shutdown: Shutdown) {
    let peer = stream.peer();
    let address = if let Peer::Remote(address) = peer { Some(address) } else { None };
    let offer = site.offer(peer);
    let mut wire = Wire::new(stream, site.idle);
    offer.greeting().encode(&mut wire.output);
    let session = Session::new(offer);
    let mut dialogue = Dialogue { wire, site, session, address, targets: Vec::new(), chunks: None, shutdown };
    if dialogue.run().await == Gone::Idle {
        TOO_SLOW.encode(&mut dialogue.wire.output);
    }
    let _ = dialogue.wire.flush().await;
}

struct Dialogue {
    wire: Wire<Stream>,
    site: Arc<Site>,
    session: Session,
    address: Option<IpAddr>,
    /// What the session's accepted recipients are, in their order.
    targets: Vec<Target>,
    /// The message that BDAT brings.
    chunks: Option<(ChunkDecoder, Intake)>,
    shutdown: Shutdown,
}

impl Dialogue {
    async fn run(&mut self) -> Gone {
        loop {
            match self.step().await {
                Ok(()) => {}
                Err(gone) => return gone,
            }
        }
    }

    /// Reads a command and does what it says.
    async fn step(&mut self) -> Result<(), Gone> {
        let action = loop {
            match lmtp::decode(self.wire.unread()) {
                Ok(Some((decoded, used))) => {
                    let action = self.session.step(decoded);
                    self.wire.consume(used);
                    break action;
                }
                Ok(None) => self.more().await?,
                Err(malformed) => {
                    malformed.reply().encode(&mut self.wire.output);
                    return Err(Gone::Done);
                }
            }
        };
        self.obey(action).await?;
        // RSET, LHLO and refused chunks end a transaction.
        let open = self.session.envelope().map_or(0, |envelope| envelope.recipients.len());
        self.targets.truncate(open);
        if open == 0 {
            self.chunks = None;
        }
        self.wire.relieve().await
    }

    /// Waits for more of a command. Between transactions the end of the daemon ends the wait.
    async fn more(&mut self) -> Result<(), Gone> {
        self.wire.flush().await?;
        if self.session.envelope().is_some() {
            return self.wire.fill(COMMAND_ROOM).await;
        }
        tokio::select! {
            biased;
            () = self.shutdown.wait() => {
                SHUTTING_DOWN.encode(&mut self.wire.output);
                Err(Gone::Done)
            }
            filled = self.wire.fill(COMMAND_ROOM) => filled,
        }
    }

    async fn obey(&mut self, action: Action) -> Result<(), Gone> {
        match action {
            Action::Reply(reply) => reply.encode(&mut self.wire.output),
            Action::Find(recipient) => self.find(recipient).await,
            Action::Data(reply) => {
                reply.encode(&mut self.wire.output);
                self.data().await?;
            }
            Action::Chunk { size, last } => self.chunk(size, last).await?,
            Action::Discard { size, reply, times } => {
                self.chunks = None;
                self.discard(size).await?;
                (0..times).for_each(|_| reply.encode(&mut self.wire.output));
            }
            Action::Close(reply) => {
                reply.encode(&mut self.wire.output);
                return Err(Gone::Done);
            }
        }
        Ok(())
    }

    async fn find(&mut self, recipient: Recipient) {
        let announced = self.session.envelope().and_then(|envelope| envelope.size).unwrap_or(0);
        let found = self.site.find(&recipient, announced).await;
        let verdict = match &found {
            Ok(_) => Verdict::Yes,
            Err((verdict, reason)) => {
                let sender = self.session.envelope().map_or("", |envelope| &envelope.sender);
                let ident = self.session.forwarded(Forwarded::Ident);
                log::refused(sender, &recipient.address, *verdict, reason, ident);
                *verdict
            }
        };
        verdict.reply(&recipient.address, self.site.over_quota).encode(&mut self.wire.output);
        if let Ok(target) = found {
            self.targets.push(target);
            self.session.accept(recipient);
        }
    }

    /// A message by DATA.
    async fn data(&mut self) -> Result<(), Gone> {
        let Some(mut intake) = self.intake() else { return Ok(()) };
        let mut decoder = DataDecoder::new();
        self.wire.flush().await?;
        loop {
            let fed = decoder.feed(self.wire.unread(), &mut intake.buffer);
            self.wire.consume(fed.used);
            if !self.session.allows(decoder.size()) {
                intake.overflow();
            }
            if fed.done {
                return self.finish(intake).await;
            }
            intake.relieve().await;
            self.wire.fill(DATA_ROOM).await?;
        }
    }

    /// A piece of a message by BDAT.
    async fn chunk(&mut self, size: u64, last: bool) -> Result<(), Gone> {
        let begun = self.chunks.take().or_else(|| self.intake().map(|intake| (ChunkDecoder::new(), intake)));
        let Some((mut decoder, mut intake)) = begun else { return Ok(()) };
        decoder.begin(size);
        let mut done = size == 0;
        while !done {
            let fed = decoder.feed(self.wire.unread(), &mut intake.buffer);
            self.wire.consume(fed.used);
            intake.relieve().await;
            done = fed.done;
            if !done {
                self.wire.flush().await?;
                self.wire.fill(DATA_ROOM).await?;
            }
        }
        if last {
            decoder.finish(&mut intake.buffer);
            return self.finish(intake).await;
        }
        self.chunks = Some((decoder, intake));
        self.session.chunk_reply(size).encode(&mut self.wire.output);
        Ok(())
    }

    /// Reads octets and drops them.
    async fn discard(&mut self, size: u64) -> Result<(), Gone> {
        let mut left = size;
        loop {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(self.wire.unread().len());
            self.wire.consume(count);
            left -= count as u64;
            if left == 0 {
                return Ok(());
            }
            self.wire.flush().await?;
            self.wire.fill(DATA_ROOM).await?;
        }
    }

    /// A place for the message of the open transaction.
    fn intake(&mut self) -> Option<Intake> {
        let envelope: &Envelope = self.session.envelope()?;
        let now = SystemTime::now();
        let transaction = Transaction {
            id: self.site.store.names.id(now),
            date: message::date(now),
            sender: envelope.sender.clone(),
            utf8: envelope.smtputf8,
            client: self.session.client().unwrap_or("unknown").to_owned(),
            address: self.address,
            ident: self.session.forwarded(Forwarded::Ident).map(printable),
            targets: self.targets.clone(),
        };
        Some(Intake::new(Arc::clone(&self.site), Arc::new(transaction)))
    }

    /// The message is complete: delivers it and answers for every recipient, in their order.
    async fn finish(&mut self, intake: Intake) -> Result<(), Gone> {
        self.session.finish();
        let (transaction, message) = intake.finish().await;
        match message {
            Ok(message) => self.deliver(transaction, Arc::new(message)).await,
            Err(outcome) => {
                for target in &transaction.targets {
                    log::delivered(&transaction, None, target, &outcome, Duration::ZERO);
                    self.answer(&transaction, target, &outcome);
                }
                Ok(())
            }
        }
    }

    async fn deliver(&mut self, transaction: Arc<Transaction>, message: Arc<Message>) -> Result<(), Gone> {
        let targets = &transaction.targets;
        if let [target] = &targets[..] {
            // The common case needs no task of its own.
            let site = Arc::clone(&self.site);
            let (outcome, took) = site.deliver(Arc::clone(&transaction), Arc::clone(&message), 0).await;
            log::delivered(&transaction, Some(&message), target, &outcome, took);
            self.answer(&transaction, target, &outcome);
            return Ok(());
        }
        let mut running: VecDeque<Option<JoinHandle<(Outcome, Duration)>>> = VecDeque::new();
        let mut started = 0;
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(targets.len());
        for (index, target) in targets.iter().enumerate() {
            while started < targets.len() && running.len() < DELIVERIES_AT_ONCE {
                let repeats = targets[..started].iter().any(|earlier| earlier.is_same(&targets[started]));
                running.push_back((!repeats).then(|| {
                    let site = Arc::clone(&self.site);
                    tokio::spawn(site.deliver(Arc::clone(&transaction), Arc::clone(&message), started))
                }));
                started += 1;
            }
            let outcome = match running.pop_front().flatten() {
                Some(delivery) => {
                    if !delivery.is_finished() {
                        self.wire.flush().await?;
                    }
                    let (outcome, took) = delivery.await.unwrap_or_else(|_| (self.site.broken(), Duration::ZERO));
                    log::delivered(&transaction, Some(&message), target, &outcome, took);
                    outcome
                }
                None => {
                    let first = targets[..index].iter().position(|earlier| earlier.is_same(target));
                    match first.map(|first| outcomes[first].clone()) {
                        // Stored once already in this transaction: the same answer.
                        Some(outcome @ (Outcome::Stored(_) | Outcome::Repeated)) => outcome,
                        // The same mailbox by another name may fare better: a loop is a matter of names.
                        _ => {
                            self.wire.flush().await?;
                            let site = Arc::clone(&self.site);
                            let (outcome, took) =
                                site.deliver(Arc::clone(&transaction), Arc::clone(&message), index).await;
                            log::delivered(&transaction, Some(&message), target, &outcome, took);
                            outcome
                        }
                    }
                }
            };
            self.answer(&transaction, target, &outcome);
            outcomes.push(outcome);
        }
        Ok(())
    }

    fn answer(&mut self, transaction: &Transaction, target: &Target, outcome: &Outcome) {
        let reply = outcome.reply(&target.address, &transaction.id, self.site.over_quota);
        reply.encode(&mut self.wire.output);
    }
}
