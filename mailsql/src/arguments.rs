//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::IpAddr;
use std::path::PathBuf;

/// Accounts for Postfix and Dovecot from one database: set up, serve, explain.
///
/// Exit status: 0 done; 1 a "no" (unknown user, wrong password, something found); 2 wrong usage or configuration;
/// 75 trouble that may pass, such as a database that is down.
#[derive(Parser)]
#[command(name = "mailsql", version)]
pub(crate) struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "MAILSQL_CONFIG", default_value = mailsql_config::DEFAULT_PATH, global = true)]
    pub(crate) config: PathBuf,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Create the database, its tables and a starter mailsql.toml
    Init(Init),
    /// Mail domains
    Domain {
        #[command(subcommand)]
        verb: Domain,
    },
    /// Accounts
    User {
        #[command(subcommand)]
        verb: User,
    },
    /// Aliases and catch-alls
    Alias {
        #[command(subcommand)]
        verb: Alias,
    },
    /// Who may send as whom, beyond what mailboxes and aliases allow
    Sender {
        #[command(subcommand)]
        verb: Sender,
    },
    /// Run the services of the configuration in the foreground
    Serve(Serve),
    /// Test a login as a service would see it
    Check(Check),
    /// Print what to put into the configuration of a peer
    PrintConfig(PrintConfig),
    /// The database's tables
    Db {
        #[command(subcommand)]
        verb: Db,
    },
    /// The caches of the running daemons
    Cache {
        #[command(subcommand)]
        verb: Cache,
    },
    /// What the running daemons count: rates, greylisting, failed logins
    Limits {
        #[command(subcommand)]
        verb: Limits,
    },
    /// Why something is as it is
    Explain {
        #[command(subcommand)]
        verb: Explain,
    },
    /// The stored passwords
    Pw {
        #[command(subcommand)]
        verb: Pw,
    },
    /// Walk through everything on a throw-away database
    Demo,
}

#[derive(Args)]
pub(crate) struct Init {
    /// sqlite:/path, or mysql://USER@HOST/DATABASE
    #[arg(long, value_name = "URL", default_value = "sqlite:/var/lib/mailsql/mail.db")]
    pub(crate) database: mailsql_config::DatabaseUrl,
    /// A file that holds the password of the account in URL
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// The schema of a database that is there: mailsql, postfixadmin, iredmail, ispmail; found out if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) schema: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum Domain {
    /// Add a domain
    Add { name: String },
    /// List all domains
    List {
        #[arg(long)]
        json: bool,
    },
    /// Show a domain
    Show {
        name: String,
        #[arg(long)]
        json: bool,
    },
    /// Remove a domain with its accounts and aliases; mail files stay
    Remove {
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Switch a domain on
    Enable { name: String },
    /// Switch a domain off, with all its accounts
    Disable { name: String },
}

#[derive(Subcommand)]
pub(crate) enum User {
    /// Add an account
    Add {
        address: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// List all accounts
    List {
        /// Only those of this domain
        domain: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Show an account
    Show {
        address: String,
        #[arg(long)]
        json: bool,
    },
    /// Change a password
    Passwd {
        address: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
        /// Make the password expire now, so that it must be changed
        #[arg(long, conflicts_with = "password_stdin")]
        expire: bool,
    },
    /// Remove an account; mail files stay
    Remove {
        address: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Switch an account on
    Enable { address: String },
    /// Switch an account off: no login, no delivery
    Disable { address: String },
    /// Set or lift an account's quota
    Quota {
        address: String,
        /// Bytes, such as 500M; 0 for no limit
        bytes: mailsql_config::Bytes,
        /// Messages; 0 for no limit
        #[arg(long, default_value_t = 0)]
        messages: u64,
    },
    /// Passwords of single devices and programs
    AppPassword {
        #[command(subcommand)]
        verb: AppPassword,
    },
}

/// Passwords of single devices and programs, beside the account's own.
#[derive(Subcommand)]
pub(crate) enum AppPassword {
    /// Make one and print it, once
    Add {
        address: String,
        /// What it is for; a word of your choice
        #[arg(long, default_value = "app")]
        label: String,
        /// Services that it is good for; all that the account may use when absent
        #[arg(long, value_delimiter = ',', value_name = "SERVICES")]
        service: Vec<String>,
        /// Networks from which it is good, as address or address/bits; everywhere when absent
        #[arg(long, value_delimiter = ',', value_name = "NETWORKS")]
        network: Vec<String>,
        /// How long it is good, such as 90d; for ever when absent
        #[arg(long, value_name = "TIME")]
        expires: Option<mailsql_config::Span>,
        #[arg(long)]
        json: bool,
    },
    /// List those of an account
    List {
        address: String,
        #[arg(long)]
        json: bool,
    },
    /// Remove one
    Remove {
        address: String,
        /// Its label
        #[arg(long, default_value = "app")]
        label: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum Explain {
    /// A login: its row, flags, throttle, and what each protocol would answer
    Login {
        address: String,
        /// The service that asks: smtp, imap, …
        #[arg(long, default_value = "")]
        service: String,
        /// The client's address
        #[arg(long, value_name = "IP")]
        client: Option<IpAddr>,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum Pw {
    /// Hashes by scheme, and how many a good login would replace
    Report {
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum Alias {
    /// Send mail for SOURCE (an address, or @domain for all that nothing else takes) to DESTINATION. From @domain to
    /// @domain: the first becomes a second name of the other
    Add { source: String, destination: String },
    /// List all aliases
    List {
        #[arg(long)]
        json: bool,
    },
    /// Remove an alias
    Remove { source: String, destination: String },
}

#[derive(Subcommand)]
pub(crate) enum Sender {
    /// Let LOGIN send as SOURCE: an address, or @domain for all of a domain
    Allow { login: String, source: String },
    /// Forbid LOGIN to send as SOURCE, though it be its own mailbox or alias
    Deny { login: String, source: String },
    /// Take back what was said about LOGIN and SOURCE
    Remove { login: String, source: String },
    /// List what was said about LOGIN
    List {
        login: String,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(crate) struct Serve {
    /// Only these sections of the configuration
    #[arg(long, value_delimiter = ',', value_name = "SERVICES")]
    pub(crate) only: Vec<Service>,
    /// Log level: error, warn, info, debug
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
}

/// A service that `mailsql serve` can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    /// Logins and lookups for PAM, checkpassword and the command
    Ask,
    /// Lookups for the NSS module
    Nss,
    /// The saslauthd protocol
    Saslauthd,
    /// Dovecot's auth protocols
    Auth,
    /// Postfix lookup tables
    Maps,
    /// Postfix access policy
    Policy,
    /// Delivery to Maildir
    Lmtp,
    /// Counts for Prometheus
    Metrics,
}

#[derive(Args)]
pub(crate) struct Check {
    pub(crate) address: String,
    /// The service that asks: smtp, imap, …
    #[arg(long, default_value = "")]
    pub(crate) service: String,
    /// The client's address
    #[arg(long, value_name = "IP")]
    pub(crate) client: Option<IpAddr>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct PrintConfig {
    pub(crate) peer: Peer,
    /// Sockets as seen from Postfix's chroot
    #[arg(long)]
    pub(crate) chroot: bool,
    /// Whom Postfix asks for logins: cyrus is saslauthd-rs, dovecot is dovecot-auth
    #[arg(long, value_name = "TYPE", default_value = "cyrus")]
    pub(crate) sasl: Sasl,
    /// The version of Dovecot
    #[arg(long, value_name = "VERSION", default_value = "2.3")]
    pub(crate) dovecot: DovecotVersion,
}

/// Postfix's `smtpd_sasl_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sasl {
    /// libsasl2 and saslauthd
    Cyrus,
    /// Dovecot's auth protocol
    Dovecot,
}

/// A generation of dovecot.conf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DovecotVersion {
    /// Debian 12
    #[value(name = "2.3")]
    V2_3,
    /// Debian 13
    #[value(name = "2.4")]
    V2_4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// main.cf, master.cf and Cyrus SASL's smtpd.conf
    Postfix,
    /// dovecot.conf
    Dovecot,
    /// /etc/pam.d
    Pam,
}

#[derive(Subcommand)]
pub(crate) enum Db {
    /// Add to the database what later features need
    Migrate,
    /// What the database has and lacks
    Status {
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum Cache {
    /// Make all daemons on this host forget an address, or everything
    Flush { address: Option<String> },
}

#[derive(Subcommand)]
pub(crate) enum Limits {
    /// List what is counted and not at rest
    List {
        #[arg(long)]
        json: bool,
    },
    /// Show what is counted for a login, an address or a client's IP address
    Explain {
        login: String,
        #[arg(long)]
        json: bool,
    },
    /// Forget what is counted for a login, an address or a client's IP address
    Reset { login: String },
}
