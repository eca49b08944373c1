//! Images made from directories at test time, as no registry can be asked: one archive that every engine loads.
//!
//! The archive has the form of `docker save` (the Image Specification v1.2 of moby, `manifest.json` with a configuration
//! and one layer), which `docker load`, `podman load` and `ctr images import` all read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Machine;
use crate::machine::{make_directory, write};
use crate::succeed;

/// What an image holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Image {
    /// One static binary, `/echo`, and not even a shell: `echo` alone waits, `echo PORT` answers every line that comes
    /// by TCP and every datagram by UDP on that port, on all addresses of both families. By default it waits.
    Bare,
    /// busybox, statically linked, with all its applets. Its `wget` and `nslookup` crash (name service in a static
    /// binary): use `nc`, `httpd`, `ping`, `sleep`. By default it sleeps. `/echo` is there too.
    Busybox,
    /// busybox's applets, and glibc with the real machine's `getent`, which resolves names as an ordinary program does.
    Tools,
}

impl Image {
    /// The name under which every engine knows it.
    pub fn name(self) -> &'static str {
        match self {
            Image::Bare => "localhost/bare:latest",
            Image::Busybox => "localhost/busybox:latest",
            Image::Tools => "localhost/tools:latest",
        }
    }

    /// The name without registry and tag.
    pub(crate) fn short_name(self) -> &'static str {
        self.name().trim_start_matches("localhost/").trim_end_matches(":latest")
    }

    /// The command that a container runs if none is given.
    fn default_command(self) -> &'static str {
        match self {
            Image::Bare => r#"["/echo"]"#,
            Image::Busybox | Image::Tools => r#"["sleep","2147483647"]"#,
        }
    }

    /// Gives this image to an engine that does not have it yet. `load` gets the archive's path.
    #[track_caller]
    pub(crate) fn provide(self, machine: &Machine, engine: &str, load: impl FnOnce(&Path)) {
        let mut loaded = machine.loaded.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !loaded.iter().any(|(e, i)| e == engine && *i == self) {
            load(&self.archive(machine));
            loaded.push((engine.to_owned(), self));
        }
    }

    /// Copies the image's files to `root`, for an engine without images.
    #[track_caller]
    pub(crate) fn unpack(self, machine: &Machine, root: &Path) {
        let _one_at_a_time = machine.loaded.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let unpacked = self.archive(machine).with_extension("").join("root");
        succeed(Command::new("cp").arg("-a").arg(unpacked).arg(root));
    }

    /// The archive's path; made if it is not there yet. Called with the lock on `loaded` held.
    #[track_caller]
    fn archive(self, machine: &Machine) -> PathBuf {
        let folder = machine.directory().join("images").join(self.short_name());
        let archive = folder.with_extension("tar");
        if archive.exists() {
            return archive;
        }
        let root = folder.join("root");
        make_directory(&root);
        match self {
            Image::Bare => {}
            Image::Busybox => busybox(&root),
            Image::Tools => {
                busybox(&root);
                with_libraries(&root, "getent");
                write(&root.join("etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files dns\n");
            }
        }
        compile_echo(machine, &root.join("echo"));

        tar(&folder.join("layer.tar"), &root, &["."]);
        let digest = succeed(Command::new("sha256sum").arg(folder.join("layer.tar")));
        let digest = digest.split(' ').next().unwrap_or_default();
        let machine_name = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        // The first process of a container has no default action for SIGTERM: `sleep` would be waited for in vain.
        write(
            &folder.join("config.json"),
            format!(
                r#"{{"architecture":"{machine_name}","os":"linux","config":{{"Cmd":{},"Env":["PATH=/bin:/"],"StopSignal":"SIGKILL"}},"rootfs":{{"type":"layers","diff_ids":["sha256:{digest}"]}}}}"#,
                self.default_command()
            ),
        );
        write(
            &folder.join("manifest.json"),
            format!(r#"[{{"Config":"config.json","RepoTags":["{}"],"Layers":["layer.tar"]}}]"#, self.name()),
        );
        tar(&archive, &folder, &["manifest.json", "config.json", "layer.tar"]);
        archive
    }
}

#[track_caller]
fn tar(archive: &Path, folder: &Path, members: &[&str]) {
    succeed(
        Command::new("tar")
            .args(["--numeric-owner", "--owner=0", "--group=0", "-cf"])
            .arg(archive)
            .arg("-C")
            .arg(folder)
            .args(members),
    );
}

/// Compiles `echo.c` once for each machine and copies it to its place.
#[track_caller]
fn compile_echo(machine: &Machine, to: &Path) {
    let source = machine.directory().join("images/echo.c");
    let binary = source.with_extension("");
    if !binary.exists() {
        write(&source, include_str!("echo.c"));
        succeed(Command::new("cc").args(["-O1", "-static", "-s", "-o"]).arg(&binary).arg(&source));
    }
    copy(&binary, to);
}

#[track_caller]
fn busybox(root: &Path) {
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "www"] {
        make_directory(&root.join(folder));
    }
    let host = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|p| p.exists());
    let Some(host) = host else { panic!("busybox is not installed: run scripts/install-test-deps") };
    let inside = root.join("bin/busybox");
    copy(host, &inside);
    for applet in succeed(Command::new(host).arg("--list")).lines().filter(|a| *a != "busybox") {
        let link = root.join("bin").join(applet);
        symlink("busybox", &link).unwrap_or_else(|e| panic!("cannot make {}: {e}", link.display()));
    }
    write(&root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n");
    write(&root.join("etc/group"), "root:x:0:\nnobody:x:65534:\n");
    write(&root.join("www/index.html"), "hello from inside\n");
}

/// Copies a dynamically linked program of the real machine to /usr/bin and what it is linked with to where it was.
#[track_caller]
fn with_libraries(root: &Path, program: &str) {
    let found = succeed(Command::new("sh").args(["-c", "command -v \"$0\"", program]));
    make_directory(&root.join("bin"));
    copy(Path::new(&found), &root.join("bin").join(program));
    let linked = succeed(Command::new("ldd").arg(&found));
    for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
        let inside = root.join(library.trim_start_matches('/'));
        if let Some(folder) = inside.parent() {
            make_directory(folder);
        }
        copy(Path::new(library), &inside);
    }
}

#[track_caller]
fn copy(from: &Path, to: &Path) {
    // An applet's link of the same name would be written through.
    let _ = fs::remove_file(to);
    let copied = fs::copy(from, to).and_then(|_| fs::set_permissions(to, fs::Permissions::from_mode(0o755)));
    copied.unwrap_or_else(|e| panic!("cannot copy {} to {}: {e}", from.display(), to.display()));
}
