// Exact figures where a mark is pointed at, tapped or reached by keyboard; without scripts the browser shows them itself.
const tip=document.createElement('div');tip.id='tip';tip.role='tooltip';tip.hidden=true;document.body.append(tip);
for(const t of document.querySelectorAll('svg *>title')){const e=t.parentNode;e.dataset.tip=t.textContent;
e.setAttribute('role','img');e.setAttribute('aria-label',t.textContent);e.tabIndex=0;t.remove()}
const told=e=>{const m=e.target.closest?.('[data-tip]');tip.hidden=!m;if(!m)return;tip.textContent=m.dataset.tip;
const b=m.getBoundingClientRect(),w=tip.offsetWidth,h=tip.offsetHeight;
tip.style.left=Math.max(4,Math.min(innerWidth-w-4,b.x+b.width/2-w/2))+'px';
tip.style.top=(b.y-h-8>0?b.y-h-8:b.bottom+8)+'px'};
for(const kind of ['pointerover','focusin','pointerdown'])addEventListener(kind,told);
addEventListener('focusout',()=>tip.hidden=true);addEventListener('scroll',()=>tip.hidden=true,{passive:true});
addEventListener('keydown',e=>{if(e.key==='Escape')tip.hidden=true});
