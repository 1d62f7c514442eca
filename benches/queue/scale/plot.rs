//! Plots of curves, on logarithmic axes: a cost that grows linearly is a line as steep as the dashed one.

use std::fs;
use std::path::PathBuf;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (720, 420);
/// The library writes four fifths of it as pixels.
const TEXT: u32 = 16;
const LEFT: i32 = 16;
/// The names of the curves stand at the right of their last points.
const NAMES_WIDTH: u32 = 110;
const NAME_HEIGHT: i32 = 16;

/// Legible on white and on black alike.
const COLOURS: [RGBColor; 5] = [
    RGBColor(0x2f, 0x81, 0xd6),
    RGBColor(0xd9, 0x6a, 0x1d),
    RGBColor(0x2b, 0x9a, 0x4e),
    RGBColor(0xb0, 0x55, 0xc8),
    RGBColor(0xc9, 0x3c, 0x4f),
];
const GREY: RGBColor = RGBColor(0x80, 0x80, 0x80);

/// Named values at growing positions.
pub struct Curve {
    names: Vec<&'static str>,
    points: Vec<(f64, Vec<f64>)>,
}

impl Curve {
    pub fn new(names: impl IntoIterator<Item = &'static str>) -> Curve {
        Curve { names: names.into_iter().collect(), points: Vec::new() }
    }

    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    pub fn push(&mut self, x: f64, values: &[f64]) {
        // A logarithmic axis has no zero. Less than this is not measured.
        self.points.push((x, values.iter().map(|value| value.max(0.01)).collect()));
    }
}

/// A curve with the names of its axes.
pub struct Plot {
    pub curve: Curve,
    pub x: String,
    pub y: String,
}

impl Plot {
    /// Writes the plot to a file of this name in `docs/performance/`.
    pub fn write(&self, file: &str) {
        let mut svg = String::new();
        self.draw(&mut svg).expect("the plot is drawn");
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/performance");
        fs::create_dir_all(&folder).expect("the folder");
        fs::write(folder.join(format!("{file}.svg")), svg).expect("the plot is written");
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let points = &self.curve.points;
        let all = points.iter().flat_map(|(_, values)| values.iter().copied());
        let (least, most) =
            all.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
        let (from, to) = (points.first().map_or(1.0, |point| point.0), points.last().map_or(1.0, |point| point.0));
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let text = ("sans-serif", TEXT).into_font().color(&GREY);
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .margin_right(NAMES_WIDTH)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d((from..to).log_scale(), (least / 2.0..most * 2.0).log_scale())?;
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(GREY)
            .label_style(text.clone())
            .axis_desc_style(text.clone())
            .x_desc(&self.x)
            .y_desc(&self.y)
            .x_label_formatter(&readable)
            .y_label_formatter(&readable)
            .draw()?;
        // As steep as linear growth is, from the highest value at the left, as far as there is room.
        let highest = points.first().map_or(1.0, |(_, values)| values.iter().copied().fold(0.01, f64::max));
        let end = to.min(from * most * 2.0 / highest);
        chart.draw_series(DashedLineSeries::new([(from, highest), (end, highest * end / from)], 4, 4, GREY.into()))?;
        let mut ends = Vec::new();
        for (index, name) in self.curve.names.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let line: Vec<(f64, f64)> = points.iter().map(|(x, values)| (*x, values[index])).collect();
            chart.draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(2)))?;
            chart.draw_series(line.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
            if let Some(last) = line.last() {
                ends.push((chart.backend_coord(last), *name, colour));
            }
        }
        let (x, y) = chart.backend_coord(&(end, highest * end / from));
        root.draw(&Text::new("linear", (x - LEFT, y + 4), text.pos(Pos::new(HPos::Right, VPos::Top))))?;
        // From top to bottom, each at least a line below the one before.
        ends.sort_by_key(|((_, y), ..)| *y);
        let mut free = 0;
        for ((x, y), name, colour) in ends {
            let y = y.max(free);
            free = y + NAME_HEIGHT;
            let style = ("sans-serif", TEXT).into_font().color(&colour).pos(Pos::new(HPos::Left, VPos::Center));
            root.draw(&Text::new(name, (x + 8, y), style))?;
        }
        root.present()?;
        Ok(())
    }
}

fn readable(value: &f64) -> String {
    match *value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e3 => format!("{}k", value / 1e3),
        value => format!("{value}"),
    }
}
