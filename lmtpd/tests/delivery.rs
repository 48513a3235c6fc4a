//! Stories of a client that delivers mail.

mod common;

use common::{Server, accounts, exists, size_in};
use mailsql_core::Quota;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;

const MESSAGE: &[u8] = b"Subject: test\r\n\r\nbody\r\n";

#[test]
fn a_message_is_stored_with_its_trace() {
    let server = Server::start("");
    let mut client = server.greeted();
    client.expect("MAIL FROM:<sender@example.net> SIZE=24 BODY=8BITMIME", "250 2.1.0");
    client.expect("RCPT TO:<INFO@example.JP> ORCPT=rfc822;sales@example.jp", "250 2.1.5");
    client.expect("DATA", "354");
    client.send(b"Return-Path: <forged@example.net>\r\nSubject: test\r\n\r\n..\r\nbody\r\n.\r\n");
    client.expect_reply("250 2.0.0 <INFO@example.JP>");
    client.expect("QUIT", "221 2.0.0");
    assert!(client.at_end());
    // The path has the database's spelling.
    let text = String::from_utf8(server.message("Info@Example.jp")).unwrap();
    let (header, body) = text.split_once("\nSubject: test\n").unwrap();
    assert_eq!(body, "\n.\nbody\n");
    let lines: Vec<_> = header.lines().collect();
    assert_eq!(
        lines[..3],
        ["Return-Path: <sender@example.net>", "Delivered-To: INFO@example.JP", "X-Original-To: sales@example.jp"]
    );
    assert_eq!(lines[3], "Received: from mx.example.jp");
    assert!(lines[4].starts_with("\tby store.example.jp (mailsql) with LMTP id "), "{header}");
    assert!(lines[5].starts_with("\tfor <INFO@example.JP>; ") && lines[5].ends_with(" +0000"), "{header}");
    assert_eq!(lines.len(), 6);
    let mode = |path: &str| server.root().join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("Info@Example.jp"), 0o700);
}

#[test]
fn every_recipient_hears_what_concerns_them() {
    let server = Server::start("");
    std::fs::write(server.root().join("file"), "no folder").unwrap();
    let mut client = server.greeted();
    client.expect("MAIL FROM:<>", "250 2.1.0");
    for (to, reply) in [
        ("info@example.jp", "250 2.1.5 <info@example.jp>"),
        ("nobody@example.jp", "550 5.1.1 <nobody@example.jp>"),
        ("nobody+info@example.jp", "550 5.1.1 "),
        ("info@elsewhere.net", "550 5.1.1 "),
        ("off@example.jp", "550 5.2.1 "),
        ("gone@example.jp", "550 5.2.1 "),
        ("other@example.jp", "451 4.3.5 "),
        ("escape@example.jp", "451 4.3.5 "),
        ("file@example.jp", "250 2.1.5 "),
        ("own+detail@example.jp", "250 2.1.5 "),
        ("admin", "250 2.1.5 "),
        ("\"a b\"@example.jp", "250 2.1.5 "),
        ("", "501 5.1.3 "),
    ] {
        client.expect(&format!("RCPT TO:<{to}>"), reply);
    }
    server.table.outage.store(true, Ordering::SeqCst);
    client.expect("RCPT TO:<info@example.jp>", "451 4.3.0 ");
    client.expect("RCPT TO:<nobody@example.jp>", "451 4.3.0 ");
    client.expect("DATA", "354");
    client.send(MESSAGE);
    client.send(b".\r\n");
    for reply in
        ["250 2.0.0 <info@", "451 4.2.0 <file@", "250 2.0.0 <own+detail@", "250 2.0.0 <admin>", "250 2.0.0 <\"a b\"@"]
    {
        client.expect_reply(reply);
    }
    client.expect("NOOP", "250");
    for mailbox in ["Info@Example.jp", "example.jp/own/Maildir", "admin@example.jp", "a b@example.jp"] {
        let text = String::from_utf8(server.message(mailbox)).unwrap();
        assert!(text.starts_with("Return-Path: <>\nDelivered-To: "), "{text}");
        server.wait_for_empty_tmp(mailbox);
    }
    assert!(!exists(&server.dir.path().join("escape")));
}

#[test]
fn bytes_come_out_as_they_went_in() {
    let server = Server::start("");
    let mut client = server.greeted();
    for (wire, want) in [
        (&b"A: b\r\n\r\n..dot\r\n...\r\n\r\n.\r\n"[..], &b"A: b\n\n.dot\n..\n\n"[..]),
        (b"A: b\r\n\r\n\xff\x80\xe3\x81\x82\0\r\n.\r\n", b"A: b\n\n\xff\x80\xe3\x81\x82\0\n"),
        (b"A: b\r\n\r\nbare\rcr and\nlf\n.\nstill\r\n.\r\n", b"A: b\n\nbare\rcr and\nlf\n.\nstill\n"),
        (b".\r\n", b""),
        (b"no header\r\n.\r\n", b"\nno header\n"),
        (b"A: b\r\n\r\n\xef\xbb\xbfx\r\nReturn-Path: <body>\r\n.\r\n", b"A: b\n\n\xef\xbb\xbfx\nReturn-Path: <body>\n"),
    ] {
        client.expect("MAIL FROM:<a@b>", "250");
        client.expect("RCPT TO:<third@example.jp>", "250");
        client.expect("DATA", "354");
        client.send(wire);
        client.expect_reply("250 2.0.0");
        let bytes = server.message("third@example.jp");
        let end = bytes.windows(6).position(|window| window == b"+0000\n").unwrap() + 6;
        assert_eq!(&bytes[end..], want, "{}", wire.escape_ascii());
        std::fs::remove_dir_all(server.root().join("third@example.jp")).unwrap();
    }
}

#[test]
fn a_large_message_reaches_everybody_whole() {
    let server = Server::start("");
    let mut client = server.greeted();
    let line = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz\r\n";
    let message = format!("Return-Path: <x@y>\r\nSubject: large\r\n\r\n{}", line.repeat((20 << 20) / line.len()));
    let replies = client
        .deliver(&["info@example.jp", "own@example.jp", "info+x@example.jp", "admin@example.jp"], message.as_bytes());
    assert!(replies.iter().all(|reply| reply.starts_with("250 2.0.0")), "{replies:?}");
    let want = message.split_once("\r\n").unwrap().1.replace("\r\n", "\n");
    for (mailbox, to) in
        [("Info@Example.jp", "info@"), ("example.jp/own/Maildir", "own@"), ("admin@example.jp", "admin@")]
    {
        let text = String::from_utf8(server.message(mailbox)).unwrap();
        assert!(text.starts_with(&format!("Return-Path: <sender@example.net>\nDelivered-To: {to}example.jp\n")));
        assert!(text.ends_with(&want) && text.len() < want.len() + 500, "{mailbox}");
        server.wait_for_empty_tmp(mailbox);
    }
}

#[test]
fn a_large_message_passes_by_a_mailbox_that_takes_none() {
    let server = Server::start("");
    std::fs::write(server.root().join("file"), "no folder").unwrap();
    let mut client = server.greeted();
    let message = format!("Subject: large\r\n\r\n{}", "x\r\n".repeat(100_000));
    let replies = client.deliver(&["file@example.jp", "info@example.jp", "admin@example.jp"], message.as_bytes());
    for (reply, want) in replies.iter().zip(["451 4.2.0", "250 2.0.0", "250 2.0.0"]) {
        assert!(reply.starts_with(want), "{replies:?}");
    }
    assert_eq!(server.message("Info@Example.jp").len(), server.message("admin@example.jp").len() - 3 + 2 - 3 + 2);
}

#[test]
fn a_client_that_goes_away_leaves_nothing() {
    let server = Server::start("");
    for size in [10, 10 << 20] {
        let mut client = server.greeted();
        client.expect("MAIL FROM:<a@b>", "250");
        client.expect("RCPT TO:<info@example.jp>", "250");
        client.expect("DATA", "354");
        client.send(b"Subject: half\r\n\r\n");
        client.send(&vec![b'x'; size]);
        drop(client);
        // The service is done with that client when another of its messages has come through.
        let mut client = server.greeted();
        assert!(client.deliver(&["admin@example.jp"], MESSAGE)[0].starts_with("250"));
        server.wait_for_empty_tmp("Info@Example.jp");
        assert_eq!(server.list("Info@Example.jp/new"), [""; 0]);
    }
}

#[test]
fn a_pipelined_transaction_is_answered_in_order() {
    let server = Server::start("");
    let mut client = server.connect();
    client.send(
        b"LHLO mx\r\nMAIL FROM:<a@b>\r\nRCPT TO:<info@example.jp>\r\nRCPT TO:<nobody@example.jp>\r\n\
          RCPT TO:<INFO@example.jp>\r\nRCPT TO:<admin@example.jp>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n\
          RSET\r\nMAIL FROM:<a@b>\r\nRCPT TO:<nobody@example.jp>\r\nDATA\r\nQUIT\r\n",
    );
    for start in [
        "250-store",
        "250 2.1.0",
        "250 2.1.5",
        "550 5.1.1",
        "250 2.1.5",
        "250 2.1.5",
        "354",
        "250 2.0.0 <info@",
        "250 2.0.0 <INFO@",
        "250 2.0.0 <admin@",
        "250 2.0.0",
        "250 2.1.0",
        "550 5.1.1",
        "503 5.5.1",
        "221 2.0.0",
    ] {
        client.expect_reply(start);
    }
    assert!(client.at_end());
    // Once, though named twice.
    server.message("Info@Example.jp");
}

#[test]
fn a_message_in_chunks_is_stored() {
    let server = Server::start("max_message_size = \"1M\"");
    let mut client = server.greeted();
    client.expect("MAIL FROM:<a@b>", "250");
    client.expect("RCPT TO:<info@example.jp>", "250");
    client.expect("RCPT TO:<admin@example.jp>", "250");
    client.send(b"BDAT 12\r\nSubject: x\r\nBDAT 5\r\n\r\n.\r\nBDAT 0\r\nBDAT 4 LAST\r\nlast");
    for start in ["250 2.0.0 12", "250 2.0.0 5", "250 2.0.0 0", "250 2.0.0 <info@", "250 2.0.0 <admin@"] {
        client.expect_reply(start);
    }
    for mailbox in ["Info@Example.jp", "admin@example.jp"] {
        assert!(server.message(mailbox).ends_with(b"+0000\nSubject: x\n\n.\nlast\n"));
    }
    // Larger than memory, larger than the limit, given up, and for nobody.
    client.expect("MAIL FROM:<a@b>", "250");
    client.expect("RCPT TO:<third@example.jp>", "250");
    let half = vec![b'x'; 500_000];
    for last in ["", " LAST"] {
        client.send(format!("BDAT 500000{last}\r\n").as_bytes());
        client.send(&half);
        client.expect_reply("250 2.0.0");
    }
    assert!(server.message("third@example.jp").len() > 1_000_000);
    client.expect("MAIL FROM:<a@b>", "250");
    client.expect("RCPT TO:<own@example.jp>", "250");
    client.send(b"BDAT 500000\r\n");
    client.send(&half);
    client.expect_reply("250 2.0.0");
    client.send(b"BDAT 600000 LAST\r\n");
    client.send(&vec![b'x'; 600_000]);
    client.expect_reply("552 5.3.4");
    client.expect("MAIL FROM:<a@b>", "250");
    client.expect("RCPT TO:<own@example.jp>", "250");
    client.send(b"BDAT 500000\r\n");
    client.send(&half);
    client.expect_reply("250 2.0.0");
    client.expect("RSET", "250");
    client.send(b"MAIL FROM:<a@b>\r\nBDAT 4 LAST\r\nQUIT");
    client.expect_reply("250");
    client.expect_reply("503 5.5.1");
    client.expect("NOOP", "250");
    server.wait_for_empty_tmp("example.jp/own/Maildir");
    assert_eq!(server.list("example.jp/own/Maildir/new"), [""; 0]);
}

#[test]
fn a_message_over_the_limit_is_refused_and_the_dialogue_goes_on() {
    let server = Server::start("max_message_size = \"300K\"\nmax_recipients = 2");
    let mut client = server.greeted();
    client.expect("MAIL FROM:<a@b> SIZE=307201", "552 5.3.4");
    client.expect("MAIL FROM:<a@b> SIZE=307200", "250");
    client.expect("RCPT TO:<info@example.jp>", "250");
    client.expect("RCPT TO:<admin@example.jp>", "250");
    client.expect("RCPT TO:<third@example.jp>", "452 4.5.3");
    client.expect("DATA", "354");
    client.send(&b"line of text\r\n".repeat(40_000));
    client.send(b".\r\n");
    client.expect_reply("552 5.3.4 <info@");
    client.expect_reply("552 5.3.4 <admin@");
    server.wait_for_empty_tmp("Info@Example.jp");
    assert_eq!(server.list("Info@Example.jp/new"), [""; 0]);
    assert!(client.deliver(&["info@example.jp"], MESSAGE)[0].starts_with("250"));
}

#[test]
fn loops_are_refused_unless_told_not_to() {
    let looped = b"Delivered-To: INFO@example.jp\r\nSubject: x\r\n\r\nx\r\n";
    let server = Server::start("");
    let mut client = server.greeted();
    let replies = client.deliver(&["info@example.jp", "info+x@example.jp", "admin@example.jp"], looped);
    for (reply, want) in replies.iter().zip(["554 5.4.6", "250 2.0.0", "250 2.0.0"]) {
        assert!(reply.starts_with(want), "{replies:?}");
    }
    server.message("Info@Example.jp");
    let hops = format!("{}\r\n", "Received: by x\r\n".repeat(50));
    assert!(client.deliver(&["info@example.jp"], hops.as_bytes())[0].starts_with("554 5.4.6"));
    let server = Server::start("detect_loops = false");
    assert!(server.greeted().deliver(&["info@example.jp"], looped)[0].starts_with("250"));
}

#[test]
fn details_name_folders_where_that_is_wanted() {
    let to = ["info+Lists@example.jp", "info+../x@example.jp", "info+inbox@example.jp", "info@example.jp"];
    let count = |server: &Server, folder: &str| server.list(&format!("Info@Example.jp/{folder}")).len();
    for (detail, make, inbox, lists) in
        [("inbox", true, 1, 0), ("folder", false, 1, 0), ("folder", true, 1, 1), ("create", false, 1, 1)]
    {
        let server = Server::start(&format!("detail = \"{detail}\""));
        if make {
            std::fs::create_dir_all(server.root().join("Info@Example.jp/.Lists/cur")).unwrap();
        }
        let mut client = server.greeted();
        assert!(client.deliver(&to, MESSAGE).iter().all(|reply| reply.starts_with("250")));
        assert_eq!(count(&server, "new") - usize::from(detail == "folder" && !make), inbox, "{detail} {make}");
        assert_eq!(count(&server, ".Lists/new"), lists, "{detail} {make}");
        let subscribed = std::fs::read_to_string(server.root().join("Info@Example.jp/subscriptions"));
        assert_eq!(subscribed.ok().as_deref(), (detail == "create").then_some("Lists\n"));
    }
}

#[test]
fn a_missing_root_defers() {
    let server = Server::start("");
    std::fs::remove_dir(server.root()).unwrap();
    let mut client = server.greeted();
    assert!(client.deliver(&["info@example.jp"], MESSAGE)[0].starts_with("451 4.3.5"));
    let large = b"x\r\n".repeat(100_000);
    assert!(client.deliver(&["info@example.jp"], &large)[0].starts_with("451 4.3.5"));
    assert!(!exists(&server.root()));
    std::fs::create_dir(server.root()).unwrap();
    assert!(client.deliver(&["info@example.jp"], MESSAGE)[0].starts_with("250"));
}

#[test]
fn an_end_is_announced_between_transactions_and_mail_under_way_is_finished() {
    let mut server = Server::start("");
    let mut idle = server.greeted();
    let mut busy = server.greeted();
    busy.expect("MAIL FROM:<a@b>", "250");
    busy.expect("RCPT TO:<info@example.jp>", "250");
    busy.expect("DATA", "354");
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| server.stop());
        idle.expect_reply("421 4.3.2");
        assert!(idle.at_end());
        busy.send(b"Subject: x\r\n\r\nx\r\n.\r\n");
        busy.expect_reply("250 2.0.0");
        busy.expect_reply("421 4.3.2");
        assert!(busy.at_end());
        assert!(stopped.join().unwrap(), "all sessions ended in time");
    });
    server.message("Info@Example.jp");
}

#[test]
fn a_silent_client_is_told_and_let_go() {
    let server = Server::start("idle_timeout = \"200ms\"\nmax_connections = 1");
    let mut client = server.greeted();
    client.expect("MAIL FROM:<a@b>", "250");
    client.expect_reply("421 4.4.2");
    assert!(client.at_end());
    // Its slot is free.
    server.greeted().expect("NOOP", "250");
}

#[test]
fn many_sessions_deliver_at_once() {
    let server = Server::start("writers = 4");
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = server.greeted();
                for _ in 0..10 {
                    let replies = client.deliver(&["info@example.jp", "admin@example.jp"], MESSAGE);
                    assert!(replies.iter().all(|reply| reply.starts_with("250 2.0.0")), "{replies:?}");
                }
            });
        }
    });
    assert_eq!(server.list("Info@Example.jp/new").len(), 160);
    assert_eq!(server.list("admin@example.jp/new").len(), 160);
}

const RETRIED: &[u8] = b"Received: by mx.example.jp (Postfix) id 4bN2xT0Zz1z3vF; date\r\nSubject: x\r\n\r\nbody\r\n";

#[test]
fn a_message_that_comes_again_is_stored_once() {
    let mut server = Server::start("");
    for _ in 0..3 {
        let mut client = server.greeted();
        let replies = client.deliver(&["info@example.jp", "admin@example.jp"], RETRIED);
        assert!(replies.iter().all(|reply| reply.starts_with("250 2.0.0")), "{replies:?}");
        // The memory outlives the process.
        server = server.restart("");
    }
    server.message("Info@Example.jp");
    server.message("admin@example.jp");
    // Read away by the user: it does not come back.
    std::fs::remove_dir_all(server.root().join("Info@Example.jp/new")).unwrap();
    std::fs::create_dir(server.root().join("Info@Example.jp/new")).unwrap();
    let mut client = server.greeted();
    assert!(client.deliver(&["info@example.jp"], RETRIED)[0].starts_with("250 2.0.0"));
    assert_eq!(server.list("Info@Example.jp/new"), [""; 0]);
    // Another message, whatever the queue id.
    let other = [RETRIED, b"more\r\n"].concat();
    assert!(client.deliver(&["info@example.jp"], &other)[0].starts_with("250 2.0.0"));
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<admin@example.jp>", "250");
    client.expect("DATA", "354");
    client.send(RETRIED);
    client.send(b".\r\n");
    client.expect_reply("250 2.0.0");
    server.message("Info@Example.jp");
    assert_eq!(server.list("admin@example.jp/new").len(), 2);
}

#[test]
fn the_client_may_name_its_queue_id() {
    let server = Server::start("");
    let mut client = server.greeted();
    for (ident, count) in
        [("IDENT=A1", 1), ("IDENT=A1", 1), ("IDENT=A2", 2), ("IDENT=[UNAVAILABLE]", 3), ("IDENT=[UNAVAILABLE]", 4)]
    {
        client.expect(&format!("XFORWARD {ident}"), "250");
        assert!(client.deliver(&["info@example.jp"], MESSAGE)[0].starts_with("250 2.0.0"));
        assert_eq!(server.list("Info@Example.jp/new").len(), count, "{ident}");
    }
    // Large ones too.
    let large = [RETRIED, &b"x\r\n".repeat(100_000)].concat();
    for _ in 0..2 {
        assert!(client.deliver(&["admin@example.jp", "third@example.jp"], &large)[1].starts_with("250 2.0.0"));
    }
    server.message("admin@example.jp");
    server.message("third@example.jp");
    let server = Server::start("retry_window = \"0s\"");
    for _ in 0..2 {
        assert!(server.greeted().deliver(&["info@example.jp"], RETRIED)[0].starts_with("250"));
    }
    assert_eq!(server.list("Info@Example.jp/new").len(), 2);
    assert_eq!(server.list("Info@Example.jp/tmp"), [""; 0]);
}

#[test]
fn a_full_mailbox_refuses_and_the_others_take() {
    let mut table = accounts();
    table.add("small@example.jp", |account| account.quota = Quota { bytes: Some(2000), messages: None });
    table.add("few@example.jp", |account| account.quota = Quota { bytes: None, messages: Some(1) });
    let server = Server::with(table, "");
    let mut client = server.greeted();
    let large = [b"Subject: x\r\n\r\n", &b"x\r\n".repeat(1000)[..]].concat();
    let replies = client.deliver(&["small@example.jp", "info@example.jp"], &large);
    assert!(replies[0].starts_with("552 5.2.2 <small@") && replies[1].starts_with("250 2.0.0"), "{replies:?}");
    assert_eq!(server.list("small@example.jp/new"), [""; 0]);
    assert_eq!(server.list("small@example.jp/tmp"), [""; 0]);
    client.expect("MAIL FROM:<a@b> SIZE=5000", "250");
    client.expect("RCPT TO:<small@example.jp>", "552 5.2.2");
    client.expect("RSET", "250");
    for _ in 0..2 {
        assert!(client.deliver(&["small@example.jp"], MESSAGE)[0].starts_with("250 2.0.0"));
    }
    let sizes = server.list("small@example.jp/new").iter().map(|name| size_in(name)).collect::<Vec<_>>();
    let ledger = std::fs::read_to_string(server.root().join("small@example.jp/maildirsize")).unwrap();
    assert_eq!(ledger, format!("2000S\n0 0\n{} 1\n{} 1\n", sizes[0], sizes[1]));
    // Full by count: said at RCPT, in both forms; space made by the user is seen.
    assert!(client.deliver(&["few@example.jp"], MESSAGE)[0].starts_with("250 2.0.0"));
    client.expect("MAIL FROM:<a@b>", "250");
    client.expect("RCPT TO:<few@example.jp>", "552 5.2.2");
    let server = server.restart("over_quota = \"defer\"");
    let mut client = server.greeted();
    client.expect("MAIL FROM:<a@b>", "250");
    client.expect("RCPT TO:<few@example.jp>", "452 4.2.2");
    client.expect("RSET", "250");
    std::fs::remove_file(server.root().join("few@example.jp/new").join(&server.list("few@example.jp/new")[0])).unwrap();
    std::fs::write(server.root().join("few@example.jp/maildirsize"), "0S,1C\n300 1\n0 0\n").unwrap();
    assert!(client.deliver(&["few@example.jp"], MESSAGE)[0].starts_with("250 2.0.0"));
}

#[test]
fn a_mailbox_is_not_overfilled_by_many_at_once() {
    let mut table = accounts();
    table.add("few@example.jp", |account| account.quota = Quota { bytes: None, messages: Some(7) });
    let server = Server::with(table, "");
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let mut client = server.greeted();
                client.expect("MAIL FROM:<a@b>", "250");
                if client.say("RCPT TO:<few@example.jp>").starts_with("250") {
                    client.expect("DATA", "354");
                    client.send(MESSAGE);
                    client.send(b".\r\n");
                    let reply = client.reply();
                    assert!(reply.starts_with("250 2.0.0") || reply.starts_with("552 5.2.2"), "{reply}");
                }
            });
        }
    });
    assert_eq!(server.list("few@example.jp/new").len(), 7);
}
