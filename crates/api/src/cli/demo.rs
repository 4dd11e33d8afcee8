//! `serve --demo`: everything that is needed to see the product work, made once and printed at every start.
//!
//! The admin key is kept in a file that only its owner can read, so that a restart neither makes another key nor loses
//! the one that somebody has already pasted elsewhere.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use multicredit_domain::{Amount, Credits, ExternalId, GrantSource, OrganizationId, credit};
use multicredit_store::{Store, clock};

use super::admin_key;
use super::opening::{self, Opening};
use crate::auth;
use crate::config::Secret;

const EXTERNAL_ID: &str = "demo";
const NAME: &str = "Demo organization";

/// What the demo organization has of each type: enough for an afternoon, little enough to see it shrink.
const CREDITS: i64 = 10_000;

/// The key under which it gets them once.
const GRANT_KEY: &str = "demo:credits";

/// The consumption that is proposed: an action of the starting catalogue.
const CONSUMPTION: &str = r#"{"action":"ai_chat","quantity":3}"#;

/// The file of the admin key, in the data folder.
const KEY_FILE: &str = "admin-key";

/// Readable and writable for its owner, invisible to everybody else.
const KEY_FILE_MODE: u32 = 0o600;

/// What the demo key is called in lists.
const KEY_NAME: &str = "demo";

/// What there is to try, once it exists.
#[derive(Debug)]
pub struct Demo {
    organization_id: OrganizationId,
    admin_key: Secret,
    key_file: PathBuf,
}

/// Makes what is missing. A configured admin key, which is registered already, takes the place of one of its own.
pub async fn prepare(store: &Store, data_dir: &Path, configured: Option<&Secret>) -> anyhow::Result<Demo> {
    let key_file = data_dir.join(KEY_FILE);
    let admin_key = match configured {
        Some(secret) => {
            write_key(&key_file, secret)?;
            secret.clone()
        }
        None => kept_or_new_key(store, &key_file).await?,
    };
    let organization_id = prepare_organization(store).await.context("cannot make the demo organization")?;
    Ok(Demo { organization_id, admin_key, key_file })
}

async fn prepare_organization(store: &Store) -> anyhow::Result<OrganizationId> {
    let opening = Opening {
        credits: Credits::from_array([Amount::new(CREDITS)?; credit::COUNT]),
        source: GrantSource::Promotion,
        key: GRANT_KEY,
    };
    Ok(opening::ensure(store, &ExternalId::new(EXTERNAL_ID)?, NAME, &opening).await?)
}

async fn kept_or_new_key(store: &Store, file: &Path) -> anyhow::Result<Secret> {
    if let Some(secret) = read_key(file)?
        && admin_key::is_valid(store, &secret).await?
    {
        return Ok(secret);
    }
    let secret = Secret::from(auth::new_secret());
    // First the file: a key that is registered and written nowhere would be valid and lost.
    write_key(file, &secret)?;
    admin_key::register(store, &secret, KEY_NAME).await?;
    Ok(secret)
}

/// The key that an earlier start left, if it left one that can be a key. Whatever the file's mode was, only its owner
/// can read it afterwards.
fn read_key(file: &Path) -> anyhow::Result<Option<Secret>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    fs::set_permissions(file, Permissions::from_mode(KEY_FILE_MODE))
        .with_context(|| format!("cannot protect {}", file.display()))?;
    let text = text.trim();
    Ok(auth::is_acceptable_admin_key(text).then(|| Secret::from(text.to_owned())))
}

/// Writes the key into a file that has its mode from its first instant and its whole content from the instant at which
/// it has its name.
fn write_key(file: &Path, secret: &Secret) -> anyhow::Result<()> {
    let draft = file.with_extension("new");
    let write = || {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut writer = create_private(&draft)?;
        writeln!(writer, "{}", secret.expose())?;
        writer.sync_all()?;
        fs::rename(&draft, file)
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

fn create_private(file: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(KEY_FILE_MODE);
    options.open(file).or_else(|error| {
        if error.kind() != ErrorKind::AlreadyExists {
            return Err(error);
        }
        // Left by a start that was killed; its mode may be anybody's.
        fs::remove_file(file)?;
        options.open(file)
    })
}

impl Demo {
    /// What to tell the person who started it.
    pub fn describe(&self, listening: SocketAddr) -> String {
        let url = format!("http://{}", reachable(listening));
        format!(
            "\n  API         {url}/v1\n  Swagger UI  {url}/docs\n  Dashboard   {url}/dashboard\n  Admin key   {key}\n              kept in {file}\n\n\
             Consume credits of the demo organization. Sent again as it is, it charges nothing again and gets the same \
             answer,\nwith the header Idempotent-Replayed: true.\n\n{curl}\n",
            key = self.admin_key.expose(),
            file = self.key_file.display(),
            curl = self.curl(&url, &clock::new_uuid().to_string()),
        )
    }

    /// A command for a POSIX shell, on one line so that it survives being copied.
    fn curl(&self, url: &str, idempotency_key: &str) -> String {
        [
            format!("curl -i -X POST {}", quote(&format!("{url}/v1/organizations/{}/consume", self.organization_id))),
            format!("-H {}", quote(&format!("Authorization: Bearer {}", self.admin_key.expose()))),
            format!("-H {}", quote("Content-Type: application/json")),
            format!("-H {}", quote(&format!("Idempotency-Key: {idempotency_key}"))),
            format!("-d {}", quote(CONSUMPTION)),
        ]
        .join(" ")
    }
}

/// The address under which this machine reaches a server that listens on all of them.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

/// The text as one word of a POSIX shell, whatever is in it.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn demo(admin_key: &str) -> Demo {
        Demo {
            organization_id: "01932f5e-8b6a-7c3d-9e1f-2a4b6c8d0e1f".parse().unwrap(),
            admin_key: admin_key.to_owned().into(),
            key_file: PathBuf::from("data/admin-key"),
        }
    }

    /// What a shell makes of the command, were `curl` a program that prints its arguments.
    fn words_in_a_shell(command: &str) -> Vec<String> {
        let script = format!("curl() {{ printf '%s\\n' \"$@\"; }}; {command}");
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_command_reaches_curl_as_it_is_meant_whatever_the_key_contains() {
        let key = r#"a'b"c$(id)`id`\!*#~&|;<>?[]{}=%^,.:/+_-@0123456789"#;
        let words = words_in_a_shell(&demo(key).curl("http://127.0.0.1:8080", "once"));
        let expected = [
            "-i",
            "-X",
            "POST",
            "http://127.0.0.1:8080/v1/organizations/01932f5e-8b6a-7c3d-9e1f-2a4b6c8d0e1f/consume",
            "-H",
            &format!("Authorization: Bearer {key}"),
            "-H",
            "Content-Type: application/json",
            "-H",
            "Idempotency-Key: once",
            "-d",
            r#"{"action":"ai_chat","quantity":3}"#,
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn every_start_proposes_a_fresh_key_at_an_address_that_can_be_reached() {
        let demo = demo(&"k".repeat(32));
        let [first, second] = [(); 2].map(|()| demo.describe("0.0.0.0:8080".parse().unwrap()));
        assert_ne!(first, second);
        assert!(first.contains("\ncurl -i -X POST 'http://127.0.0.1:8080/v1/"), "{first}");
        assert!(first.contains("http://127.0.0.1:8080/docs"), "{first}");
        assert!(first.contains("http://127.0.0.1:8080/dashboard\n"), "{first}");
        assert!(demo.describe("[::]:1".parse().unwrap()).contains("http://[::1]:1/v1"));
    }

    #[test]
    fn the_key_file_is_private_from_the_start_and_made_private_again_when_read() {
        let folder = std::env::temp_dir().join(format!("multicredit-demo-{}", clock::new_uuid()));
        let file = folder.join("nested").join(KEY_FILE);
        let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(read_key(&file).unwrap(), None);

        for secret in ["a".repeat(32), "b".repeat(32)] {
            write_key(&file, &secret.clone().into()).unwrap();
            assert_eq!(mode(), KEY_FILE_MODE);
            fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
            assert_eq!(read_key(&file).unwrap(), Some(secret.into()));
            assert_eq!(mode(), KEY_FILE_MODE);
        }

        // A draft that a killed start left readable for all does not lend its mode.
        let draft = file.with_extension("new");
        fs::write(&draft, "half").unwrap();
        fs::set_permissions(&draft, Permissions::from_mode(0o644)).unwrap();
        write_key(&file, &"c".repeat(32).into()).unwrap();
        assert_eq!((mode(), draft.exists()), (KEY_FILE_MODE, false));

        fs::write(&file, "too short\n").unwrap();
        assert_eq!(read_key(&file).unwrap(), None);
        fs::remove_dir_all(folder).unwrap();
    }
}
