//! Extended attributes, which the namespace alone has.

use serde::{Deserialize, Serialize};

/// Bytes of all names and values of an inode.
pub(crate) const TOTAL_MAX: usize = 64 << 10;

/// Name and value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// A change of one extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XattrChange {
    /// Its name, with the namespace that it begins with.
    pub name: Vec<u8>,
    /// Its value; `None`: it is removed.
    pub value: Option<Vec<u8>>,
    /// Whether it must be there already, or must not; `None`: either.
    pub exists: Option<bool>,
}
