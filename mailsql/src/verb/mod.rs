//! The verbs, one file each.

pub(crate) mod alias;
pub(crate) mod app_password;
pub(crate) mod cache;
pub(crate) mod check;
pub(crate) mod db;
pub(crate) mod demo;
pub(crate) mod domain;
pub(crate) mod explain;
pub(crate) mod init;
pub(crate) mod limits;
pub(crate) mod print_config;
pub(crate) mod pw;
pub(crate) mod sender;
pub(crate) mod user;
