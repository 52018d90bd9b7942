/** All that a person reads, in English and Chinese. The English sentence is the key. */

const CHINESE: Record<string, string> = {
  'TAO jobs': 'TAO 任务',
  'TAO jobs ({n} running)': 'TAO 任务（{n} 个正在运行）',
  'Show TAO jobs': '显示 TAO 任务',
  Running: '正在运行',
  Finished: '已结束',
  'and {n} older': '另有 {n} 个更早的任务',
  Refresh: '刷新',
  'Reading …': '正在读取……',
  'No jobs yet. What you start with %tao or tao in a folder of this server shows up here, and stays when the kernel ends.':
    '还没有任务。用 %tao 或 tao 在此服务器的文件夹中启动的命令会显示在这里，内核结束后仍会保留。',
  'The server does not answer: {message}': '服务器没有响应：{message}',
  'The server does not know TAO jobs. Run `jupyter server extension enable taomagic.server` and start it again.':
    '服务器不认识 TAO 任务。请运行 `jupyter server extension enable taomagic.server`，然后重新启动服务器。',
  starting: '正在启动',
  running: '正在运行',
  succeeded: '成功',
  failed: '失败',
  stopped: '已停止',
  lost: '失去联系',
  stopping: '正在停止',
  'epoch {epoch} of {epochs}': '第 {epoch} / {epochs} 轮',
  '{time} left': '剩余 {time}',
  'took {time}': '用时 {time}',
  'for {time}': '已运行 {time}',
  '{time} ago': '{time}前',
  'just now': '刚刚',
  '{n} s': '{n} 秒',
  '{m} min {s} s': '{m} 分 {s} 秒',
  '{n} min': '{n} 分钟',
  '{h} h {m} min': '{h} 小时 {m} 分',
  '{n} h': '{n} 小时',
  '{n} days': '{n} 天',
  '1 day': '1 天',
  'Progress of {label}': '{label} 的进度',
  Stop: '停止',
  'Stop {label}': '停止 {label}',
  'Stop {label}?': '停止 {label}？',
  'What has been saved so far stays. The command is asked to end, and killed after ten seconds if it does not.':
    '已经保存的文件会保留。系统会先请求命令结束，十秒后仍未结束则强制终止。',
  Cancel: '取消',
  Log: '日志',
  'Open the log of {label}': '打开 {label} 的日志',
  Folder: '文件夹',
  'Show the folder of {label}': '显示 {label} 的文件夹',
  'Details of {label}': '{label} 的详细信息',
  Command: '命令',
  Job: '任务',
  'Runs in': '运行方式',
  'a process': '进程',
  'a container': '容器',
  'Exit code': '退出码',
  Metrics: '指标',
  'AP by class': '各类别 AP',
  Files: '文件',
  '{n} earlier ones': '更早的 {n} 个文件',
  'in the container': '容器内',
  Problem: '问题',
  Hint: '提示',
  Notes: '说明',
  'Log of {label} ({id})': '{label} 的日志（{id}）',
  'Log: {label}': '日志：{label}',
  Follow: '跟随',
  'Wrap lines': '自动换行',
  'Show earlier lines': '显示更早的内容',
  'Nothing has been printed yet.': '还没有输出。',
  ended: '已结束',
  'TAO notebook': 'TAO 笔记本',
  '{net} notebook': '{net} 笔记本',
  'New TAO notebook': '新建 TAO 笔记本',
  'New TAO notebook: {net}': '新建 TAO 笔记本：{net}',
  'A sample notebook for {net}, with its spec files': '{net} 的示例笔记本及其 spec 文件',
  'An empty notebook with %tao loaded': '已加载 %tao 的空白笔记本',
  'The notebook was not created': '未能创建笔记本',
  'The job was not stopped': '未能停止任务',
  'The file browser shows a drive that is not on this server.': '文件浏览器显示的位置不在此服务器上。'
};

let chinese = false;

/** Choose the language: `zh_CN`, `zh-Hans` and the like give Chinese, anything else English. */
export function choose(language: string): void {
  chinese = /^(zh|chinese)\b|^zh_/i.test(language);
}

export function language(): 'en' | 'zh' {
  return chinese ? 'zh' : 'en';
}

/** Return a sentence in the chosen language, its places filled in. */
export function say(sentence: string, values: Record<string, string | number> = {}): string {
  const text = (chinese && CHINESE[sentence]) || sentence;
  return text.replace(/\{(\w+)\}/g, (place, name) => String(values[name] ?? place));
}
