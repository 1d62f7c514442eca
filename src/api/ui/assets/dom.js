// A small virtual DOM: h() describes elements, render() changes a container's children to what is described.
// Elements that stay keep their focus, scroll position and selection. Text is set as text nodes only: no markup is parsed.

const SVG = "http://www.w3.org/2000/svg";

/** Describes an element. Children are descriptions, texts, numbers, arrays of them; null and false are left out. */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, key: props?.key, children: flatten(children, []) };
}

function flatten(children, into) {
  for (const child of children) {
    if (child == null || child === false) continue;
    if (Array.isArray(child)) flatten(child, into);
    else into.push(typeof child === "object" ? child : String(child));
  }
  return into;
}

/** Changes the container's children to the described ones. */
export function render(container, ...children) {
  patchChildren(container, flatten(children, []), container.namespaceURI === SVG ? SVG : null);
}

function patchChildren(parent, wanted, namespace) {
  const keyed = new Map();
  const unkeyed = [];
  for (const node of parent.childNodes) {
    if (node.described?.key !== undefined) keyed.set(node.described.key, node);
    else unkeyed.push(node);
  }
  let place = parent.firstChild;
  const drop = (node) => {
    if (node === place) place = node.nextSibling;
    node.remove();
  };
  // What is no longer wanted goes first: an element that is moved would lose the focus.
  const wantedKeys = new Set(wanted.map((want) => want.key));
  for (const [key, node] of keyed) if (!wantedKeys.has(key)) drop(node);
  let next = 0;
  for (const want of wanted) {
    let node;
    if (want.key !== undefined) {
      node = keyed.get(want.key);
      keyed.delete(want.key);
    } else {
      while (next < unkeyed.length && !matches(unkeyed[next], want)) drop(unkeyed[next++]);
      node = unkeyed[next++];
    }
    node = node ? patch(node, want, namespace) : create(want, namespace);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
  while (next < unkeyed.length) drop(unkeyed[next++]);
}

function matches(node, want) {
  return typeof want === "string" ? node.nodeType === Node.TEXT_NODE : node.described?.tag === want.tag;
}

function create(want, namespace) {
  if (typeof want === "string") return document.createTextNode(want);
  const inner = want.tag === "svg" ? SVG : namespace;
  const node = inner ? document.createElementNS(inner, want.tag) : document.createElement(want.tag);
  node.described = { tag: want.tag, props: {}, key: want.key };
  return patch(node, want, namespace);
}

function patch(node, want, namespace) {
  if (typeof want === "string") {
    if (node.data !== want) node.data = want;
    return node;
  }
  const before = node.described.props;
  node.described = want;
  patchChildren(node, want.children, want.tag === "svg" ? SVG : namespace);
  for (const name of Object.keys(before)) if (!(name in want.props)) setProp(node, name, null);
  for (const [name, value] of Object.entries(want.props)) if (before[name] !== value) setProp(node, name, value);
  return node;
}

function setProp(node, name, value) {
  if (name === "key") return;
  if (name.startsWith("on")) node[name.toLowerCase()] = value;
  else if (name === "width%") node.style.width = value == null ? "" : `${value}%`;
  else if (name === "value" || name === "checked" || name === "indeterminate") node[name] = value ?? "";
  else if (value == null || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
}
