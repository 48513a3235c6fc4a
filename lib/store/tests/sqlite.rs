//! The native schema on SQLite.
#![allow(missing_docs, clippy::unwrap_used)]

use mailsql_config::{Database, DatabaseUrl};
use mailsql_core::{Address, Directory};
use mailsql_store::{Store, WriteError};

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

async fn store(dir: &tempfile::TempDir) -> Store {
    let store = Store::open(&Database::new(DatabaseUrl::Sqlite(dir.path().join("mail.db"))), None).unwrap();
    store.create_file().await.unwrap();
    store.create().await.unwrap();
    store
}

#[tokio::test]
async fn accounts_are_made_found_changed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let info = address("Info@Example.jp");
    assert!(matches!(store.add_user(&info, "h1").await, Err(WriteError::Missing(..))));
    store.add_domain("Example.jp").await.unwrap();
    assert_eq!(store.add_domain("example.JP").await, Err(WriteError::Exists("example.JP".into())));
    store.add_user(&info, "h1").await.unwrap();
    assert!(matches!(store.add_user(&address("INFO@example.jp"), "h2").await, Err(WriteError::Exists(_))));

    let found = store.account(&address("info@example.jp")).await.unwrap().unwrap();
    assert_eq!(found.address.as_str(), "Info@Example.jp", "answers carry the stored spelling");
    assert_eq!(&*found.password.as_ref().unwrap().0, "h1");
    assert!(found.enabled);

    store.set_password(&info, "h2").await.unwrap();
    assert!(!store.replace_password(&info, "h1", "h3").await.unwrap());
    assert!(store.replace_password(&info, "h2", "h3").await.unwrap());
    store.enable_user(&info, false).await.unwrap();
    let found = store.account(&info.folded()).await.unwrap().unwrap();
    assert_eq!((&*found.password.as_ref().unwrap().0, found.enabled), ("h3", false));
    store.enable_user(&info, true).await.unwrap();
    store.enable_domain("example.jp", false).await.unwrap();
    assert!(!store.account(&info.folded()).await.unwrap().unwrap().enabled);
    assert!(store.domains().await.unwrap().is_empty());

    store.remove_user(&info).await.unwrap();
    assert!(store.account(&info.folded()).await.unwrap().is_none());
    assert!(matches!(store.remove_user(&info).await, Err(WriteError::Missing(..))));
}

#[tokio::test]
async fn aliases_and_catch_alls_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    store.add_domain("example.jp").await.unwrap();
    store.add_alias("sales", "example.jp", "info@example.jp").await.unwrap();
    store.add_alias("sales", "example.jp", "out@example.net").await.unwrap();
    store.add_alias("", "example.jp", "info@example.jp").await.unwrap();
    let sales = store.alias(&address("sales@example.jp")).await.unwrap().unwrap();
    assert_eq!(sales.join(","), "info@example.jp,out@example.net");
    assert_eq!(store.catch_all("example.jp").await.unwrap().unwrap().join(","), "info@example.jp");
    assert!(store.alias(&address("other@example.jp")).await.unwrap().is_none());
    store.remove_alias("", "example.jp", "info@example.jp").await.unwrap();
    assert!(store.catch_all("example.jp").await.unwrap().is_none());
}

#[tokio::test]
async fn setting_up_twice_changes_nothing_and_a_missing_file_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Store::open(&Database::new(DatabaseUrl::Sqlite(dir.path().join("none.db"))), None).unwrap();
    let error = missing.account(&address("a@b.c")).await.unwrap_err();
    assert!(error.reason().contains("mailsql init"), "{error}");
    let store = store(&dir).await;
    assert!(store.create().await.unwrap().is_empty());
    assert!(store.missing().await.unwrap().is_empty());
}

#[tokio::test]
async fn hostile_texts_are_values_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    store.add_domain("example.jp").await.unwrap();
    for local in ["o'brien", "a\"b", "x%_y", "back\\slash", "'; DROP TABLE users; --", "点"] {
        let address = Address::new(local, "example.jp").unwrap();
        store.add_user(&address, "h").await.unwrap();
        assert!(store.account(&address.folded()).await.unwrap().is_some(), "{local}");
    }
    assert!(store.account(&address("%@example.jp")).await.unwrap().is_none());
    assert_eq!(store.list_users().await.unwrap().len(), 6);
}
