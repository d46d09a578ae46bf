// Sorts a table by the column whose head is clicked, largest or smallest first in turn. The page is whole without it.
for(const t of document.querySelectorAll('table.runs')){const b=t.tBodies[0];
t.tHead.rows[0].querySelectorAll('th').forEach((h,i)=>{h.tabIndex=0;let up=false;const sort=()=>{up=!up;
t.querySelectorAll('th[aria-sort]').forEach(o=>o.removeAttribute('aria-sort'));
h.setAttribute('aria-sort',up?'ascending':'descending');
const v=r=>r.cells[i].dataset.v??r.cells[i].textContent;
[...b.rows].sort((x,y)=>{const p=v(x),q=v(y);if(p===''||q==='')return (p==='')-(q==='');
const d=isNaN(p)||isNaN(q)?p.localeCompare(q):p-q;return up?d:-d}).forEach(r=>b.append(r))};
h.onclick=sort;h.onkeydown=e=>{if(e.key==='Enter'||e.key===' '){e.preventDefault();sort()}}})}
