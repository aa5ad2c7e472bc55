//! Options of a mount, checked so that a misspelt one is an error and not a silent default.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use crate::{UfsError, UfsErrorKind};

/// The options of one store, taken out one by one under their known names.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    given: &'a BTreeMap<String, String>,
    store: String,
}

impl<'a> Options<'a> {
    /// Checks that every option is one of `known`.
    pub(crate) fn new(
        store: impl Display,
        given: &'a BTreeMap<String, String>,
        known: &[&[&str]],
    ) -> Result<Self, UfsError> {
        let store = store.to_string();
        let known: Vec<&str> = known.concat();
        match given.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(Self { given, store }),
            Some(unknown) => Err(UfsError::new(
                UfsErrorKind::Invalid,
                format!("{store} has no option {unknown:?}: use one of {}", known.join(", ")),
            )),
        }
    }

    /// The text of an option.
    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.given.get(name).map(String::as_str)
    }

    /// An option as a value; `form` says in the error what would be right.
    pub(crate) fn parse<T: FromStr>(&self, name: &str, form: &str) -> Result<Option<T>, UfsError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| self.bad(name, text, form))
    }

    /// The error for an option whose value is not of `form`.
    pub(crate) fn bad(&self, name: &str, text: &str, form: &str) -> UfsError {
        UfsError::new(UfsErrorKind::Invalid, format!("option {name} of {} is {text:?}: give {form}", self.store))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_option_is_named_with_the_known_ones() {
        let given = BTreeMap::from([("regoin".to_owned(), "x".to_owned())]);
        let error = Options::new("s3://b", &given, &[&["region"], &["deadline"]]).expect_err("regoin");
        assert_eq!(error.to_string(), "s3://b has no option \"regoin\": use one of region, deadline");
    }

    #[test]
    fn a_bad_value_is_named_with_its_form() {
        let given = BTreeMap::from([("path_style".to_owned(), "yes".to_owned())]);
        let options = Options::new("s3://b", &given, &[&["path_style"]]).expect("known");
        let error = options.parse::<bool>("path_style", "true or false").expect_err("yes");
        assert_eq!(error.to_string(), "option path_style of s3://b is \"yes\": give true or false");
    }
}
