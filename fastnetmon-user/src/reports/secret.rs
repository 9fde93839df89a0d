//! Passwords and tokens.
//!
//! **Invariant**: a secret shows itself to whoever sends it and to nobody else: it has no `Display`,
//! its `Debug` is a word, and no error holds it.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A secret.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for the wire.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Two places name one.
    #[error("`[{section}]` has both `{word}_file` and `{word}_env`: leave one of them empty")]
    Two {
        /// Which section.
        section: &'static str,
        /// `password` or `token`.
        word: &'static str,
    },
    /// The file cannot be read.
    #[error("`{word}_file` in `[{section}]`: `{}`: {source}", file.display())]
    Unreadable {
        /// Which section.
        section: &'static str,
        /// `password` or `token`.
        word: &'static str,
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others may read it.
    #[error("`{word}_file` in `[{section}]`: `{}` may be read by everybody: `chmod 600` it", file.display())]
    Open {
        /// Which section.
        section: &'static str,
        /// `password` or `token`.
        word: &'static str,
        /// The file.
        file: PathBuf,
    },
    /// There is no such variable.
    #[error("`{word}_env` in `[{section}]`: the environment has no `{variable}`")]
    Unset {
        /// Which section.
        section: &'static str,
        /// `password` or `token`.
        word: &'static str,
        /// The variable.
        variable: String,
    },
    /// It is empty.
    #[error("the {word} of `[{section}]` is empty: put it in, or leave its key out")]
    Empty {
        /// Which section.
        section: &'static str,
        /// `password` or `token`.
        word: &'static str,
    },
}

/// Where a secret is found: in a file, in a variable of the environment, or nowhere.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The section that names it.
    pub section: &'static str,
    /// `password` or `token`.
    pub word: &'static str,
    /// A file; empty: none.
    pub file: &'a Path,
    /// A variable; empty: none.
    pub variable: &'a str,
}

impl Place<'_> {
    /// Reads it. The end of a line at its end is no part of it.
    ///
    /// # Errors
    /// When it is named and not there.
    pub fn read(self) -> Result<Option<Secret>, SecretError> {
        let Self { section, word, file, variable } = self;
        let text = match (file.as_os_str().is_empty(), variable.is_empty()) {
            (true, true) => return Ok(None),
            (false, false) => return Err(SecretError::Two { section, word }),
            (false, true) => {
                let file = file.to_owned();
                let unreadable =
                    |source| SecretError::Unreadable { section, word, file: file.clone(), source };
                let mode = std::fs::metadata(&file).map_err(unreadable)?.permissions().mode();
                if mode & 0o004 != 0 {
                    return Err(SecretError::Open { section, word, file });
                }
                std::fs::read_to_string(&file).map_err(unreadable)?
            }
            (true, false) => {
                #[expect(clippy::disallowed_methods, reason = "a secret may stand nowhere else")]
                let value = std::env::var(variable);
                value.map_err(|_unset| SecretError::Unset {
                    section,
                    word,
                    variable: variable.to_owned(),
                })?
            }
        };
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err(SecretError::Empty { section, word });
        }
        Ok(Some(Secret(secret.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place<'a>(file: &'a Path, variable: &'a str) -> Place<'a> {
        Place { section: "redis", word: "password", file, variable }
    }

    #[test]
    fn a_secret_comes_from_a_file_and_shows_itself_to_nobody() {
        let file = std::env::temp_dir().join(format!("fnm-secret-{}", std::process::id()));
        std::fs::write(&file, "hunter2\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = place(&file, "").read().unwrap_err().to_string();
        assert!(error.ends_with("may be read by everybody: `chmod 600` it"), "{error}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let secret = place(&file, "").read().unwrap().unwrap();
        assert_eq!((secret.reveal(), format!("{secret:?}").as_str()), ("hunter2", "Secret"));
        std::fs::write(&file, "\n").unwrap();
        let error = place(&file, "").read().unwrap_err().to_string();
        assert!(error.contains("the password of `[redis]` is empty"), "{error}");
        std::fs::remove_file(&file).unwrap();
        let error = place(&file, "").read().unwrap_err().to_string();
        assert!(error.starts_with("`password_file` in `[redis]`: `"), "{error}");
    }

    #[test]
    fn a_secret_comes_from_the_environment_or_from_nowhere() {
        let none = Path::new("");
        assert_eq!(place(none, "").read().unwrap(), None);
        // Cargo gives its tests this one.
        let secret = place(none, "CARGO_PKG_NAME").read().unwrap().unwrap();
        assert_eq!(secret.reveal(), "fastnetmon-user");
        let error = place(none, "FNM_NO_SUCH").read().unwrap_err().to_string();
        assert!(error.ends_with("the environment has no `FNM_NO_SUCH`"), "{error}");
        let error = place(Path::new("x"), "Y").read().unwrap_err().to_string();
        assert!(error.contains("has both `password_file` and `password_env`"), "{error}");
    }
}
