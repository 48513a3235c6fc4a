//! Postfix's policy questions: policyd with a rate rule for each login, and a server that lets everything through.
//!
//! Clients speak the policy wire, one question at a time on each connection, as one smtpd does. Each request is a message
//! of its own (`instance`) by one of many logins, so that each is counted; the limit is one that is never reached, since a
//! refusal would be no work of the same kind.

use super::Area;
use crate::figures::{Figures, Role};
use crate::fixture::{Accounts, Site};
use crate::floor::{Floors, Wire};
use crate::line::{Contender, measure as measure_line};
use crate::load::{Client, Tally, drive};
use crate::plan::Plan;
use crate::report;
use anyhow::{Context, Result, bail};
use mailsql_rig::Daemon;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const AREA: Area = Area {
    name: "policy",
    about: "policy decisions with a rate rule, beside a server that decides nothing",
    packages: &["policyd"],
    measure,
};

/// Accounts, each a login that sends.
const LOGINS: usize = 1000;
/// Connections: one smtpd process, and a busy server's.
const CONNECTIONS: [usize; 2] = [1, 50];
/// Rules that are never reached.
const RULES: &str = "[policy]\nlisten = { socket = \"{run}/policy\", mode = \"0666\" }\nchecks = [\"rate\"]\n\
                     [[policy.rate.rule]]\nname = \"hour\"\nkey = \"sasl_username\"\ncount = \"messages\"\n\
                     limit = 1000000000\nper = \"1h\"\n";

fn measure(plan: &Plan) -> Result<Figures> {
    let mut figures = Figures::new(&AREA, plan);
    figures.host = report::host(&[]);
    let accounts = Accounts::make(LOGINS, 1)?;
    let site = Site::on(&accounts, RULES)?;
    let mut daemon: Daemon = site.start("policyd", &[], "policy")?;
    let session = daemon.process()?.pid();
    let floors = Floors::start(Wire::Policy)?;
    let logins: Arc<[String]> = accounts.spread(LOGINS).iter().map(|account| account.address()).collect();
    for connections in CONNECTIONS {
        let id = format!("rate-{connections}");
        if !plan.wants(&id) {
            continue;
        }
        let load = |socket: &Path| load(socket, &logins, connections);
        let (floor, note) = floors.fastest(|socket| load(socket)(plan.probe()))?;
        figures.notes.push(format!("{id}: {note}"));
        let contenders = vec![
            Contender::new(Role::Ours, "policyd", load(&site.run("policy"))).session(session).queries(0.0..=0.02),
            Contender::new(Role::Floor, format!("floor ({})", floor.style), load(&floor.socket)).session(floor.session),
        ];
        let title = format!("one rate rule, {connections} connections");
        figures.lines.push(measure_line(plan, &id, &title, Some(&accounts), contenders)?);
        figures.target(&format!("{title}: × floor"), 0.7, (&id, "policyd"), (&id, "floor"))?;
    }
    Ok(figures)
}

/// Clients with a connection each; client K begins at another login.
fn load(socket: &Path, logins: &Arc<[String]>, connections: usize) -> impl Fn(Duration) -> Result<Tally> + use<> {
    let (socket, logins) = (socket.to_owned(), Arc::clone(logins));
    let instance = Arc::new(AtomicU64::new(0));
    move |time| {
        let clients = (0..connections).map(|index| -> Result<Client> {
            let mut stream = UnixStream::connect(&socket)?;
            let (logins, instance) = (Arc::clone(&logins), Arc::clone(&instance));
            let mut next = index * logins.len() / connections;
            Ok(Box::new(move || {
                let login = logins.get(next % logins.len()).context("no logins")?;
                next += 1;
                ask(&mut stream, &request(login, instance.fetch_add(1, Ordering::Relaxed)))
            }))
        });
        drive(clients.collect::<Result<_>>()?, time)
    }
}

/// As smtpd 3.7 writes it for a submission.
fn request(login: &str, instance: u64) -> String {
    format!(
        "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=192.0.2.7\n\
         client_name=mx.example.net\nclient_port=41234\nreverse_client_name=mx.example.net\nserver_address=198.51.100.1\n\
         server_port=587\nhelo_name=mx.example.net\nsender={login}\nrecipient=someone@example.org\nrecipient_count=0\n\
         queue_id=\ninstance=2d1f.65a1b2c3.{instance:x}.0\nsize=2048\netrn_domain=\nstress=\nsasl_method=PLAIN\n\
         sasl_username={login}\nsasl_sender=\nccert_subject=\nccert_issuer=\nccert_fingerprint=\n\
         ccert_pubkey_fingerprint=\nencryption_protocol=TLSv1.3\nencryption_cipher=TLS_AES_256_GCM_SHA384\n\
         encryption_keysize=256\npolicy_context=\n\n"
    )
}

fn ask(stream: &mut UnixStream, request: &str) -> Result<()> {
    stream.write_all(request.as_bytes())?;
    let mut buffer = [0; 1024];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            bail!("closed without an answer");
        }
        filled += read;
        match mailsql_proto::policy::decode_reply(&buffer[..filled])? {
            None => {}
            Some((b"DUNNO", _)) => return Ok(()),
            Some((action, _)) => bail!("answered {}", String::from_utf8_lossy(action)),
        }
    }
}
