//! A file system that is small enough to be filled: a database's files, in memory, on a mount of the run's own.
//!
//! Only root may mount. Whoever holds the mount is a small process that waits for the end of its input, as the
//! guardian of servers does, so that it goes however the run ends: it ends the server first, which nobody would find any
//! more, and then takes the file system away.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Room for an empty database and its log several times over, which a run does not fill by itself.
const SIZE: &str = "384m";

/// Of the log no more than is needed: each time that the disk is full another file of it is begun.
const LITTLE_LOG: &str = "max_wal_size = 64MB\nmin_wal_size = 32MB\n";

const HOLD: &str = r#"cat
[ ! -f "$1/postmaster.pid" ] || kill -QUIT "$(head -n 1 "$1/postmaster.pid")"
umount -l "$1""#;

/// The disk under a database.
pub struct SmallDisk {
    directory: PathBuf,
    holder: Child,
}

impl SmallDisk {
    /// Moves the data of a PostgreSQL that stands still onto a small disk of its own.
    ///
    /// # Errors
    ///
    /// Why that cannot be done here.
    pub fn under(data: &Path) -> Result<Self, String> {
        may_mount()?;
        let before = data.with_file_name("data-before");
        std::fs::rename(data, &before).unwrap();
        std::fs::create_dir(data).unwrap();
        let owner = std::fs::metadata(&before).unwrap();
        let disk = Self::on(data, (owner.uid(), owner.gid()))?;
        let from = before.join(".");
        assert!(Command::new("cp").arg("-a").arg(from).arg(data).status().unwrap().success());
        std::fs::remove_dir_all(before).unwrap();
        let mut settings = File::options().append(true).open(data.join("postgresql.conf")).unwrap();
        settings.write_all(LITTLE_LOG.as_bytes()).unwrap();
        Ok(disk)
    }

    /// Makes an empty directory a small disk of that user and group.
    ///
    /// # Errors
    ///
    /// Why that cannot be done here.
    pub fn on(directory: &Path, (user, group): (u32, u32)) -> Result<Self, String> {
        may_mount()?;
        let options = format!("size={SIZE},mode=0700,uid={user},gid={group}");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory).output().unwrap();
        if !mounted.status.success() {
            return Err(String::from_utf8_lossy(&mounted.stderr).into_owned());
        }
        let mut holder = Command::new("sh");
        holder.args(["-c", HOLD, "multicredit-small-disk"]).arg(directory).current_dir("/").process_group(0);
        let holder = holder.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Ok(Self { directory: directory.to_owned(), holder })
    }

    /// Writes until nothing more fits.
    pub fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).unwrap();
        for size in [1 << 20, 4_096, 1] {
            let block = vec![1; size];
            let error = loop {
                if let Err(error) = file.write_all(&block) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        }
    }

    /// Gives back what was written.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.directory.join("ballast")
    }
}

fn may_mount() -> Result<(), String> {
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    is_root.then_some(()).ok_or_else(|| "only root may mount one".to_owned())
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        if let Err(error) = self.holder.wait() {
            eprintln!("nobody knows whether {} is mounted still: {error}", self.directory.display());
        }
    }
}
