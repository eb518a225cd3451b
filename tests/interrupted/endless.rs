//! A graph that takes ONNX Runtime many minutes to load: it computes what depends on constants alone, and
//! here that is a long chain of products of large matrices.

const SIDE: u64 = 2048;
const PRODUCTS: usize = 10_000;

/// The model's bytes.
pub(crate) fn model() -> Vec<u8> {
    let mut graph = Message::default();
    graph.node("ConstantOfShape", &["side"], "m0");
    for i in 0..PRODUCTS {
        let [from, to] = [i, i + 1].map(|n| format!("m{n}"));
        graph.node("MatMul", &[&from, &from], &to);
    }
    graph.node("Identity", &[&format!("m{PRODUCTS}")], "y");
    graph.text(2, "endless");
    // An initializer: dims, INT64, its values, its name.
    let mut side = Message::default();
    side.number(1, 2)
        .number(2, 7)
        .number(7, SIDE)
        .number(7, SIDE)
        .text(8, "side");
    graph.message(5, &side);
    graph.message(11, &port("x", &[1, 3, 8, 8]));
    graph.message(12, &port("y", &[SIDE, SIDE]));
    let mut opset = Message::default();
    opset.text(1, "").number(2, 17);
    let mut model = Message::default();
    model.number(1, 8).message(7, &graph).message(8, &opset);
    model.0
}

/// A float32 input or output.
fn port(name: &str, shape: &[u64]) -> Message {
    let [mut dims, mut tensor, mut kind, mut port] = [(); 4].map(|()| Message::default());
    for &size in shape {
        let mut dim = Message::default();
        dim.number(1, size);
        dims.message(1, &dim);
    }
    tensor.number(1, 1).message(2, &dims);
    kind.message(1, &tensor);
    port.text(1, name).message(2, &kind);
    port
}

/// A message of protocol buffers.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n > 0x7f {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn number(&mut self, field: u64, n: u64) -> &mut Self {
        self.varint(field << 3);
        self.varint(n);
        self
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn text(&mut self, field: u64, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(&mut self, field: u64, message: &Self) -> &mut Self {
        self.bytes(field, &message.0)
    }

    fn node(&mut self, operator: &str, inputs: &[&str], output: &str) {
        let mut node = Self::default();
        for input in inputs {
            node.text(1, input);
        }
        node.text(2, output).text(4, operator);
        self.message(1, &node);
    }
}
