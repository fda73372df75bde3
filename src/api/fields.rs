//! Sets of field paths (`FieldsV1`), the currency of server-side apply.
