//! Wasm programs written on the spot, in text form.

use super::Cluster;

impl Cluster {
    /// Assembles a program and imports it as `local/NAME:1`.
    pub fn import_text(&self, name: &str, text: &str) -> String {
        let code = wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        self.import_code(name, &code)
    }

    /// Imports a program's bytes as `local/NAME:1`.
    pub fn import_code(&self, name: &str, code: &[u8]) -> String {
        let file = self.home().join(format!("{name}.wasm"));
        std::fs::write(&file, code).expect("a file for a program");
        let image = format!("local/{name}:1");
        self.import(&file, &["--name", &image]);
        image
    }
}
