//! PAM module on the mailsql account database, a drop-in for pam_mysql.
