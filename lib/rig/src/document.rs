//! The account database of the mail server document, statement by statement, in a database `mail`.
//!
//! What differs from the document's text, and why:
//! - `info@domain.com` is inserted after its domain: the document never inserts `domain.com`, and its statement then fails on
//!   `domain_id` being NULL.
//! - `GRANT ... IDENTIFIED BY` stands as written; MariaDB still takes it (MySQL 8 does not).
//!
//! `mail@localhost` also matches TCP connections from 127.0.0.1, since the server names loopback addresses `localhost`
//! without asking DNS. With `skip-name-resolve` it would not, so the fixture leaves that off.

/// Name of the database.
pub const DATABASE: &str = "mail";
/// The account that services log in with; it may SELECT and nothing else.
pub const USER: &str = "mail";
/// Its password.
pub const PASSWORD: &str = "mailpass";

/// Every login the document ends up with, and its password, in the order of insertion.
pub const LOGINS: [(&str, &str); 6] = [
    ("info@hoge.com", "infopass"),
    ("info@fuga.com", "infopass"),
    ("admin@hoge.com", "adminpass"),
    ("info@domain.com", "infopass"),
    ("fuga@teketeke.com", "tekepass"),
    ("a@b.c", "apass"),
];

/// Every domain the document ends up with, in the order of insertion.
pub const DOMAINS: [&str; 5] = ["hoge.com", "fuga.com", "teketeke.com", "domain.com", "b.c"];

/// Database, account and tables, without rows.
pub const SCHEMA: &str = "\
CREATE DATABASE mail;
GRANT SELECT ON mail.* TO mail@localhost IDENTIFIED BY 'mailpass';
USE mail;
CREATE TABLE domains (
  id INT NOT NULL AUTO_INCREMENT,
  name VARCHAR(255) NOT NULL, PRIMARY KEY(id), UNIQUE KEY(name));
CREATE TABLE users (
  id INT NOT NULL AUTO_INCREMENT,
  name VARCHAR(255) NOT NULL,
  password VARCHAR(255) NOT NULL,
  domain_id INT NOT NULL,
  PRIMARY KEY(id),
  UNIQUE KEY (name, domain_id),
  FOREIGN KEY (domain_id) REFERENCES domains(id) ON DELETE CASCADE);
CREATE VIEW emails AS SELECT
  CONCAT(users.name, '@', domains.name) AS name, password FROM
  users JOIN domains ON domains.id = users.domain_id;
DELIMITER |
CREATE PROCEDURE insert_email(IN email VARCHAR(255), IN password VARCHAR(255))
  BEGIN
    INSERT IGNORE INTO domains(name) SELECT SUBSTRING_INDEX(email, '@', -1);
    INSERT INTO users(name, password, domain_id) SELECT
      SUBSTRING_INDEX(email, '@', 1),
      ENCRYPT(password, CONCAT('$6$', SHA(RAND()))),
      (SELECT id FROM domains WHERE
        name = (SUBSTRING_INDEX(email, '@', -1)));
  END |
DELIMITER ;
";

/// The document's sample rows.
pub const ROWS: &str = "\
USE mail;
INSERT INTO domains(name) VALUES ('hoge.com'), ('fuga.com');
INSERT INTO users(name, password, domain_id) VALUES
  ('info', ENCRYPT('infopass', '$6$saslt'), 1),
  ('info', ENCRYPT('infopass', '$6$saslt'), 2),
  ('admin', ENCRYPT('adminpass', '$6$saslt'), 1);
INSERT IGNORE INTO domains(name) SELECT
  SUBSTRING_INDEX('hoge@teketeke.com', '@', -1);
INSERT IGNORE INTO domains(name) SELECT
  SUBSTRING_INDEX('info@domain.com', '@', -1);
INSERT INTO users(name, password, domain_id) SELECT
  SUBSTRING_INDEX('info@domain.com', '@', 1),
  ENCRYPT('infopass'),
  (SELECT id FROM domains WHERE
    name = (SUBSTRING_INDEX('info@domain.com', '@', -1)));
CALL insert_email('fuga@teketeke.com', 'tekepass');
CALL insert_email('a@b.c', 'apass');
";

/// The arguments the document gives pam_mysql.so (its `/etc/pam.d/smtp`), for a server on `host_port`.
///
/// The same words serve any module that takes pam_mysql's arguments.
#[must_use]
pub fn pam_arguments(host_port: &str) -> String {
    format!(
        "user=mail passwd=mailpass host={host_port} db=mail table=emails usercolumn=name passwdcolumn=password crypt=1"
    )
}

/// The document's /etc/pam.d/smtp: `auth` and `account` on one module with one set of arguments.
#[must_use]
pub fn pam_service(module: &str, arguments: &str) -> String {
    format!("auth    required   {module} {arguments}\naccount required   {module} {arguments}\n")
}

/// The document's mysql-virtual-mailbox-domains.cf for a server on `host_port`.
#[must_use]
pub fn domains_map(host_port: &str) -> String {
    mysql_map(host_port, "SELECT 1 FROM domains WHERE name = '%s'")
}

/// The document's mysql-virtual-mailbox-maps.cf for a server on `host_port`.
#[must_use]
pub fn mailboxes_map(host_port: &str) -> String {
    mysql_map(host_port, "SELECT CONCAT(name, '/') FROM emails WHERE name='%s'")
}

/// A mysql_table(5) file with the document's account and any query.
#[must_use]
pub fn mysql_map(host_port: &str, query: &str) -> String {
    format!("user = {USER}\npassword = {PASSWORD}\nhosts = inet:{host_port}\ndbname = {DATABASE}\nquery = {query}\n")
}
