//! A file system that is small enough to be filled: PostgreSQL's data, in memory, on a mount of the run's own.
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
kill -QUIT "$(head -n 1 "$1/postmaster.pid")"
umount -l "$1""#;

/// The disk under a PostgreSQL that stands still, or did when it was made.
pub struct SmallDisk {
    data: PathBuf,
    holder: Child,
}

impl SmallDisk {
    /// Moves the data onto a small disk of its own.
    ///
    /// # Errors
    ///
    /// Why that cannot be done here.
    pub fn under(data: &Path) -> Result<Self, String> {
        let owner = std::fs::metadata(data).unwrap();
        if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
            return Err("only root may mount one".to_owned());
        }
        let before = data.with_file_name("data-before");
        std::fs::rename(data, &before).unwrap();
        std::fs::create_dir(data).unwrap();
        let options = format!("size={SIZE},mode=0700,uid={},gid={}", owner.uid(), owner.gid());
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(data).output().unwrap();
        if !mounted.status.success() {
            return Err(String::from_utf8_lossy(&mounted.stderr).into_owned());
        }
        let mut holder = Command::new("sh");
        holder.args(["-c", HOLD, "multicredit-small-disk"]).arg(data).current_dir("/").process_group(0);
        let holder = holder.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let disk = Self { data: data.to_owned(), holder };
        let from = before.join(".");
        assert!(Command::new("cp").arg("-a").arg(from).arg(data).status().unwrap().success());
        std::fs::remove_dir_all(before).unwrap();
        let mut settings = File::options().append(true).open(data.join("postgresql.conf")).unwrap();
        settings.write_all(LITTLE_LOG.as_bytes()).unwrap();
        Ok(disk)
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
        self.data.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        if let Err(error) = self.holder.wait() {
            eprintln!("nobody knows whether {} is mounted still: {error}", self.data.display());
        }
    }
}
