declare module 'asciichart' {
  export interface PlotConfig {
    min?: number;
    max?: number;
    height?: number;
    offset?: number;
    colors?: (string | undefined)[];
    format?: (value: number, index: number) => string;
  }
  export function plot(series: readonly (readonly number[])[], config?: PlotConfig): string;
}
