//! How does one do the same by hand? Commands that can be copied as they are.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::house::configuration;

const STAND_IN: &str = "127.0.0.1:8438";

/// Commands for a shell; all leave nothing behind but one folder.
pub fn by_hand() -> String {
    let own = env::current_exe().unwrap_or_default();
    commands(unless_found(&own, env::var_os("PATH").as_deref()))
}

/// The folder of the program, where typing its name would not start it.
fn unless_found<'a>(own: &'a Path, path: Option<&OsStr>) -> Option<&'a Path> {
    let name = own.file_name()?;
    let found = |folder: PathBuf| folder.join(name).canonicalize().ok();
    let first = path.and_then(|path| env::split_paths(path).find_map(found));
    if first == own.canonicalize().ok() { None } else { own.parent() }
}

fn commands(program: Option<&Path>) -> String {
    let quoted = |path: &Path| path.display().to_string().replace('\'', r"'\''");
    let path = program.map(|folder| format!("export PATH='{}':\"$PATH\"\n", quoted(folder))).unwrap_or_default();
    let configuration = configuration("marqueue.db", "marqueue.sock", &format!("http://{STAND_IN}"));
    format!(
        "{path}cd \"$(mktemp -d)\"\n\
         cat > marqueue.toml <<'END'\n\
         {configuration}\
         END\n\
         marqueue simulate --listen {STAND_IN} --speed 20 > simulate.log &\n\
         marqueue serve --config marqueue.toml 2> serve.log &\n\
         export MARQUEUE_SOCKET=\"$PWD/marqueue.sock\"\n\
         until marqueue status; do sleep 1; done\n\
         printf 'email,comment\\nada@example.com,\\ngrace@example.com,!fail:No such country\\n' > people.csv\n\
         marqueue add leads people.csv --wait\n\
         marqueue failures 1\n\
         kill %1 %2\n"
    )
}
