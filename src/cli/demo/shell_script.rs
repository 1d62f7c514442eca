//! Shell script that repeats the demo by hand, ready to be copied.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::cli::demo::environment::configuration;

const SIMULATOR_ADDRESS: &str = "127.0.0.1:8438";

/// Returns shell commands that repeat the demo. They create one folder, which is left.
pub fn shell_script() -> String {
    let own = env::current_exe().unwrap_or_default();
    commands(unless_found(&own, env::var_os("PATH").as_deref()))
}

/// Returns the program's folder, unless `path` already finds this program.
fn unless_found<'a>(own: &'a Path, path: Option<&OsStr>) -> Option<&'a Path> {
    let name = own.file_name()?;
    let found = |folder: PathBuf| folder.join(name).canonicalize().ok();
    let first = path.and_then(|path| env::split_paths(path).find_map(found));
    if first == own.canonicalize().ok() { None } else { own.parent() }
}

fn commands(program: Option<&Path>) -> String {
    let quoted = |path: &Path| path.display().to_string().replace('\'', r"'\''");
    let path = program.map(|folder| format!("export PATH='{}':\"$PATH\"\n", quoted(folder))).unwrap_or_default();
    let configuration = configuration("marqueue.db", "marqueue.sock", &format!("http://{SIMULATOR_ADDRESS}"));
    format!(
        "{path}cd \"$(mktemp -d)\"\n\
         cat > marqueue.toml <<'END'\n\
         {configuration}\
         END\n\
         marqueue simulate --listen {SIMULATOR_ADDRESS} --speed 20 > simulate.log & simulator=$!\n\
         marqueue serve --config marqueue.toml 2> serve.log & daemon=$!\n\
         export MARQUEUE_SOCKET=\"$PWD/marqueue.sock\"\n\
         until marqueue status; do sleep 1; done\n\
         printf 'email,note\\nada@example.com,\\nalan@example.com,!fail:Blocked\\n' > people.csv\n\
         marqueue add leads people.csv --wait\n\
         marqueue failures 1\n\
         kill $daemon $simulator\n"
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_binarys_folder_is_named_only_outside_path() {
        let [own, other] = [(), ()].map(|()| tempfile::tempdir().unwrap());
        let program = own.path().join("marqueue");
        fs::write(&program, "").unwrap();
        let path = env::join_paths([other.path(), own.path()]).unwrap();
        assert_eq!(unless_found(&program, Some(&path)), None);
        assert_eq!(unless_found(&program, Some(other.path().as_os_str())), Some(own.path()));
        assert_eq!(unless_found(&program, None), Some(own.path()));
        // Another program of that name comes first.
        fs::write(other.path().join("marqueue"), "").unwrap();
        assert_eq!(unless_found(&program, Some(&path)), Some(own.path()));
    }

    #[test]
    fn an_odd_folder_is_quoted() {
        assert!(commands(Some(Path::new("/it's"))).starts_with(r#"export PATH='/it'\''s':"$PATH""#));
        assert!(commands(None).starts_with("cd "));
    }
}
