//! ComponentStatus: health of the control plane's parts, as long gone releases reported it. It is still
//! served, because clients still ask; nothing is kept here, since the parts are one process with the server.

use serde_json::{Value, json};

use super::cells;
use crate::kind::{Column, Kind};
use crate::value::{list, text};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "ComponentStatus",
    plural: "componentstatuses",
    singular: "componentstatus",
    short_names: &["cs"],
    verbs: &["get", "list"],
    warning: "v1 ComponentStatus is deprecated in v1.19+",
    columns: &[
        Column::NAME,
        Column::text("Status"),
        Column::text("Message"),
        Column::text("Error"),
    ],
    row: |part, _| {
        let mut cells = vec![cells::name(part)];
        cells.extend(health(part));
        cells
    },
    ..Kind::CLUSTER
};

/// The cells STATUS, MESSAGE and ERROR.
fn health(part: &Value) -> [Value; 3] {
    let healthy = list(part, "conditions")
        .iter()
        .find(|c| text(c, "type") == "Healthy");
    let Some(condition) = healthy else {
        return ["Unknown".into(), "".into(), "".into()];
    };
    let status = match text(condition, "status") {
        "True" => "Healthy",
        "False" => "Unhealthy",
        _ => "Unknown",
    };
    [
        status.into(),
        json!(text(condition, "message")),
        json!(text(condition, "error")),
    ]
}
