//! The secrets of a cluster, changed while it works: tokens, the key of service accounts' tokens, authorities.
//!
//! ```text
//! administrator ─ POST trust/NAME/STEP ─▶ any server ─ next generation, sealed ─▶ store
//!    ─▶ every server takes it up, makes anew what the old keys signed, and says so in the store
//!    ─▶ whoever leads brings it to a witness, and says so for it
//!    ─▶ every node asks for `authorities`, does the same, and says so on its Node
//! ```
//! Below `/apis/coracle.dev/v1`:
//!
//! | Request | What it does |
//! |---|---|
//! | `GET trust` | which keys there are, and who has not taken up the last step |
//! | `POST trust/NAME/STEP` | a step ([`crate::pki::Step`]); `?force=true`, `?grace=SECONDS` |
//! | `GET authorities` | whom to trust: for nodes |
//! | `POST witness` | on a witness alone: takes up what the leader brings |

mod answer;
mod follow;
mod record;
mod waiting;
pub mod wire;
mod witness;

pub use answer::{answer, is_about};
pub use follow::follow;
pub use witness::supply;
