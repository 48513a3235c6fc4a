//! `mailsql init`: the database, its tables, a starter configuration. What is there already stays as it is.

use crate::arguments::Init;
use crate::outcome::Outcome;
use crate::print;
use mailsql_config::{Config, Database, DatabaseUrl};
use mailsql_store::Store;
use mailsql_store::schema::Schema;
use nix::unistd::Uid;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

pub(crate) async fn run(path: &Path, init: Init) -> Result<(), Outcome> {
    if let DatabaseUrl::Sqlite(file) = &init.database {
        make_folder(file.parent().unwrap_or(Path::new("/")))?;
    }
    let mut database = Database::new(init.database.clone());
    database.password_file = init.password_file.clone();
    let password = database.password()?;
    let store = Store::open(&database, password.as_deref().map(String::as_str))?;
    store.create_file().await?;
    let schema = which(&store, init.schema.as_deref()).await?;
    if let Some(schema) = schema.as_ref().filter(|schema| schema.name != "mailsql") {
        print::line(&format!(
            "{} is a database of {}: schema = \"{}\". It stays as it is, and is read only; `writes = true` in [database] \
             allows password changes",
            init.database, schema.title, schema.name
        ))?;
    } else if store.is_set_up().await? {
        print::line(&format!("{} has the document's tables already; they stay as they are", init.database))?;
        let missing = store.missing().await?;
        if !missing.is_empty() {
            let list = missing.join(", ");
            print::line(&format!("not there yet: {list}; `mailsql db migrate` adds them when you want them"))?;
        }
    } else {
        if !store.is_empty().await? {
            print::line("the tables that are here belong to no schema that is known; ours go beside them")?;
        }
        let done = store.create().await?;
        let list: Vec<&str> = done.iter().map(|step| step.provides.as_str()).collect();
        print::line(&format!("{}: made {}", init.database, list.join(", ")))?;
    }
    if let DatabaseUrl::Sqlite(file) = &init.database {
        own(file)?;
    }
    if path.exists() {
        Config::load(path)?;
        return print::line(&format!("{} is there already and stays as it is", path.display()));
    }
    write_config(path, &init, schema.as_ref())?;
    if schema.is_some_and(|schema| schema.name != "mailsql") {
        return print::line(&format!("{} written. Next: mailsql db status, mailsql serve", path.display()));
    }
    print::line(&format!(
        "{} written. Next: mailsql domain add NAME, mailsql user add ADDRESS, mailsql serve",
        path.display()
    ))
}

/// The schema of a database that is there already: the one that was named, or the one that it is recognised as.
async fn which(store: &Store, named: Option<&str>) -> Result<Option<Schema>, Outcome> {
    let mut found = store.recognise().await?;
    if let Some(name) = named {
        let schema = Schema::named(name).map_err(Outcome::usage)?;
        let fits = found.iter().any(|known| known.name == name);
        if !fits && name != "mailsql" {
            return Err(Outcome::no(format!("the tables of {} are not there", schema.title)));
        }
        return Ok(Some(schema));
    }
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|schema| schema.name.as_str()).collect();
        let names = names.join(", ");
        return Err(Outcome::usage(format!("the database has tables of {names}; choose one by --schema")));
    }
    Ok(found.pop())
}

/// The database's folder: 2770 mailsql:mailsql where there is such a user, since who reads in WAL mode writes beside it.
fn make_folder(folder: &Path) -> Result<(), Outcome> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    own(folder)?;
    if service_user().is_some() {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o2770))?;
    }
    Ok(())
}

/// Gives a file to the service user, when root and there is one.
fn own(path: &Path) -> Result<(), Outcome> {
    if let Some((uid, gid)) = service_user() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
        if path.is_file() {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        }
    }
    Ok(())
}

fn service_user() -> Option<(u32, u32)> {
    if !Uid::effective().is_root() {
        return None;
    }
    let user = nix::unistd::User::from_name("mailsql").ok()??;
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

fn write_config(path: &Path, init: &Init, schema: Option<&Schema>) -> Result<(), Outcome> {
    let path = std::path::absolute(path)?;
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    // A password in the url goes into a file of its own, so that the configuration can be shown to others.
    let password_file = match &init.database {
        DatabaseUrl::Mysql(url) if init.password_file.is_none() => url.password.as_ref().map(|password| {
            let file = path.with_file_name("db.password");
            write_private(&file, format!("{}\n", password.as_str()).as_bytes()).map(|()| file)
        }),
        _ => None,
    };
    let password_file = password_file.transpose()?.or_else(|| init.password_file.clone());
    write_private(&path, starter(&init.database, password_file.as_deref(), schema).as_bytes())
}

/// Makes a file for root and the service's group; one that is there already stays as it is.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Outcome> {
    let there = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Outcome::no(format!("{} is there already; remove it first", path.display()))
        }
        _ => Outcome::temporary(format!("{}: {error}", path.display())),
    };
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(path).map_err(there)?;
    file.write_all(bytes)?;
    if let Some((_, gid)) = service_user() {
        std::os::unix::fs::chown(path, None, Some(gid))?;
    }
    Ok(())
}

/// The text of a first configuration; a url is shown without its password.
fn starter(database: &DatabaseUrl, password_file: Option<&Path>, schema: Option<&Schema>) -> String {
    let mut text = String::from(
        "# A service runs when its section is here. A misspelt key is refused with its line and the nearest known one.\n\n[database]\n",
    );
    let _ = writeln!(text, "url = {}", quoted(&database.to_string()));
    if let Some(file) = password_file {
        let _ = writeln!(text, "password_file = {}", quoted(&file.display().to_string()));
    }
    let mail = schema.map(|schema| schema.mail.clone()).unwrap_or_default();
    if let Some(schema) = schema.filter(|schema| schema.name != "mailsql") {
        let _ = writeln!(text, "schema = {}", quoted(&schema.name));
    }
    let root = mail.root.unwrap_or_else(|| "/var/spool/vmail".to_owned());
    let maildir = mail.maildir.unwrap_or_else(|| "{address}/".to_owned());
    let (uid, gid) = (mail.uid.unwrap_or(5000), mail.gid.unwrap_or(5000));
    let _ =
        writeln!(text, "\n[mail]\nroot = {}\nmaildir = {}\nuid = {uid}\ngid = {gid}", quoted(&root), quoted(&maildir));
    text.push_str(STARTER);
    text
}

/// A TOML string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

const STARTER: &str = r#"recipient_delimiter = "+"

# Logins for libsasl2 (Postfix: smtpd_sasl_type = cyrus).
[saslauthd]
listen = "/run/saslauthd/mux"

# Postfix lookup tables: domains, mailboxes, aliases, senders, transports, relay_domains, relay_recipients,
# local_recipients.
[maps]
listen = ["unix:/run/mailsql/maps.sock"]

# Delivery to Maildir.
[lmtp]
listen = ["unix:/run/mailsql/lmtp.sock"]

# PAM, and the command.
[ask]
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starter_configuration_is_one_that_we_read() {
        let text = starter(&"sqlite:/var/lib/mailsql/mail.db".parse().unwrap(), None, None);
        let config = Config::parse(&text, Path::new("mailsql.toml")).unwrap();
        assert!(config.saslauthd.is_some() && config.maps.is_some() && config.lmtp.is_some() && config.ask.is_some());
    }

    #[test]
    fn a_password_in_the_url_goes_into_a_private_file_and_not_into_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mailsql.toml");
        let database = "mysql://mail:mailpass@db1/mail".parse().unwrap();
        let init = Init { database, password_file: None, schema: None };
        write_config(&path, &init, None).unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains("mailpass"));
        let config = Config::load(&path).unwrap();
        assert_eq!(config.database.password().unwrap().unwrap().as_str(), "mailpass");
        let mode = std::fs::metadata(folder.path().join("db.password")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }
}
